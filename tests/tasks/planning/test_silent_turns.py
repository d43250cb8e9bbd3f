"""Empty results of tools say that nothing came; messages that say nothing at all are left out and counted."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.models.tokens import count_tokens, load_tokenizer
from infra.recipe import Recipe
from infra.store import open_store
from tasks.asking.planning import make_asking_plan
from tasks.asking.recipes import asking_half
from tasks.chunks import cut_text
from tasks.documents.row_documents import row_document
from tasks.planning.make_plan import make_plan
from tasks.questions.chat import flat_context
from tasks.questions.messages import history_of
from tasks.questions.question import SourceRow
from tasks.questions.sessions import flat_turns
from tasks.records.example import Drop
from tasks.records.history import messages_of, turn_starts
from tests.support.asking import asking_recipe
from tests.support.tool_template import SCHEMAS, TOOL_TEMPLATE, asks, call, result, save_tool_tokenizer
from tests.tasks.planning.test_history import built_by, history_recipe, outcomes_of

NOTHING = {"en": "[the tool search returned nothing]", "zh": "[工具 search 没有返回任何内容]"}
SILENT = [
    {"role": "assistant", "content": None},
    {"role": "user", "content": " \n"},
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://pictures/1.png"}}]},
]


def log(language: str, empty: Any, *between: dict[str, Any]) -> list[dict[str, Any]]:
    """A log whose search returns nothing."""
    asked, answered = {"en": ("Who built it?", "It is not known."), "zh": ("是谁建造的？", "没有人知道。")}[language]
    called = asks(call("a", "search", {"q": "mill"}))
    messages = [{"role": "user", "content": asked}, called, *between, result("a", empty), *between]
    return [*messages, {"role": "assistant", "content": answered}, {"role": "user", "content": f"{asked} {asked}"}]


def log_recipe(folder: Path, messages: list[dict[str, Any]], language: str, template: str) -> Recipe:
    question = {"en": "What did the search find?", "zh": "搜索找到了什么？"}[language]
    rows = [{"id": "log", "messages": messages, "tools": SCHEMAS, "question": question, "language": language}]
    recipe = history_recipe(folder, rows)
    tokenizer = save_tool_tokenizer(folder / "tokenizer", template) if template else "microworld"
    return recipe.model_copy(update={"policy": recipe.policy.model_copy(update={"tokenizer": tokenizer})})


@pytest.mark.parametrize("empty", ["", " \n", None, []])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_empty_result_is_an_empty_message_or_a_text_that_says_so(
    tmp_path: Path, language: str, empty: object
) -> None:
    messages = log(language, empty)
    [as_text] = built_by(log_recipe(tmp_path, messages, language, ""))
    assert [message["content"] for message in messages_of(as_text.context)][2] == NOTHING[language]
    [built] = built_by(log_recipe(tmp_path, messages, language, TOOL_TEMPLATE))
    own = messages_of(built.context)
    assert (own[2]["role"], own[2]["content"], own[2]["name"]) == ("tool", "", "search")
    assert f"[3] tool: {NOTHING[language]}\n\n[4]" in built.context.text
    assert messages_of(flat_context(built.context, language)) == messages_of(as_text.context)
    tokenizer = load_tokenizer("microworld")
    for context in (as_text.context, built.context):  # a note's chunk begins where the result does
        heading = turn_starts(context)[2]
        size = count_tokens(tokenizer, [context.text[:heading]])[0]
        assert heading in [start for start, _ in cut_text(context.text, size, tokenizer, turn_starts(context))]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_empty_result_with_a_time_says_so_beside_it(tmp_path: Path, language: str) -> None:
    messages = [{**message, "timestamp": "10:05"} for message in log(language, "")]
    [built] = built_by(log_recipe(tmp_path, messages, language, TOOL_TEMPLATE))
    assert messages_of(built.context)[2]["content"] == f"[10:05]\n{NOTHING[language]}"


@pytest.mark.parametrize("template", [TOOL_TEMPLATE, ""])
def test_messages_that_say_nothing_are_left_out_and_counted(tmp_path: Path, template: str) -> None:
    recipe = log_recipe(tmp_path, log("en", "1901", *SILENT), "en", template)
    [built] = built_by(recipe)
    [plain] = built_by(log_recipe(tmp_path, log("en", "1901"), "en", template))
    assert built.context == plain.context
    assert (built.silent_turns, plain.silent_turns) == (6, 0)
    recipe = log_recipe(tmp_path, log("en", "1901", *SILENT), "en", template)
    warnings = make_plan(recipe, open_store(recipe.store)).warnings
    assert "6 messages of 1 histories have no text and no tool call, and are left out" in warnings


def test_a_last_message_of_the_user_that_says_nothing_is_no_question(tmp_path: Path) -> None:
    recipe = history_recipe(tmp_path, [{"id": "log", "messages": [*log("en", "1901"), SILENT[1]]}])
    [built] = built_by(recipe)
    assert built.example.question == "Who built it? Who built it?"


def test_a_history_that_says_nothing_is_a_drop(tmp_path: Path) -> None:
    [drop] = outcomes_of(history_recipe(tmp_path, [{"id": "log", "messages": SILENT, "question": "Who?"}]))
    assert isinstance(drop, Drop)
    row = SourceRow("log.jsonl", 3, {"id": "log", "messages": SILENT})
    settings = asking_recipe(tmp_path).documents
    assert settings is not None
    document = row_document(row, settings)
    assert (document.reason, str(document)) == ("empty", "row 3: no message of it says anything")  # type: ignore[union-attr]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_is_asked_about_has_the_turn_of_an_empty_result(tmp_path: Path, language: str) -> None:
    messages = log(language, "", *SILENT)
    (tmp_path / "documents").mkdir()
    text = json.dumps({"id": "log", "messages": messages, "tools": SCHEMAS}, ensure_ascii=False)
    (tmp_path / "documents" / "log.jsonl").write_text(text + "\n", encoding="utf-8")
    asking = {"kinds": {"failure_cause": 1}, "per_document": 1, "min_span_tokens": 16}
    recipe = asking_half(asking_recipe(tmp_path, asking=asking))
    plan = make_asking_plan(recipe, open_store(recipe.store))
    assert "6 messages of 1 histories have no text and no tool call, and are left out" in plan.warnings
    [session] = history_of(SourceRow("log.jsonl", 1, json.loads(text)))
    assert [turn.text for turn in flat_turns(session, language)][2] == NOTHING[language]
