"""Histories: messages stay messages, sessions of others stand between, the middle is cut by whole turns."""

import itertools
import json
from typing import Any

import numpy as np
import pytest

from infra.canonical import text_id
from infra.models.tokens import load_tokenizer
from infra.recipe import Model, Recipe
from infra.store import open_store
from tasks.chunks import chunk_borders
from tasks.contexts import BuiltQuestion
from tasks.planning.make_plan import make_plan
from tasks.records.example import Drop
from tasks.records.history import messages_of, turn_starts
from tasks.records.plan import load_shard
from tasks.reporting.prompt_context import context_in
from tasks.sample_prompt import sample_prompt
from tests.support.planning import build_examples, small_recipe

MODEL = Model(name="policy", tokenizer="microworld", endpoints=("http://127.0.0.1:9/v1",), system="Be brief.")


def memory_row(number: int, sessions: int = 3, turns: int = 2, length: int = 20, answer_in: int = 0) -> dict[str, Any]:
    """A row of LongMemEval; one of its sessions holds the answer."""
    haystack = []
    for session in range(sessions):
        messages = []
        for turn in range(turns):
            role = "assistant" if turn % 2 else "user"
            messages.append({"role": role, "content": f"Row {number}, session {session}, turn {turn}: " + "x" * length})
        haystack.append(messages)
    return {
        "question_id": f"q{number}",
        "question_type": "single-session-user",
        "question": "What was it?",
        "answer": f"{number}",
        "question_date": "2023/05/30",
        "haystack_dates": [f"2023/05/{10 + session}" for session in range(sessions)],
        "haystack_session_ids": [f"s{session}" for session in range(sessions)],
        "haystack_sessions": haystack,
        "answer_session_ids": [f"s{answer_in}"],
    }


def history_recipe(folder: Any, rows: list[dict[str, Any]], **options: Any) -> Recipe:
    policy = {"context_window": options.pop("window", 4096)}
    contexts = {"build": "history", "min_tokens": 900, "max_tokens": 1024, "step_tokens": 128, "options": options}
    recipe = small_recipe(folder, rows, contexts=contexts, policy=policy)
    form = "messages" if "messages" in rows[0] else "longmemeval"
    return recipe.model_copy(update={"questions": recipe.questions.model_copy(update={"format": form})})


def outcomes_of(recipe: Recipe) -> list[BuiltQuestion | Drop]:
    return list(build_examples(recipe, load_tokenizer(recipe.policy.tokenizer)))


def built_by(recipe: Recipe) -> list[BuiltQuestion]:
    return [outcome for outcome in outcomes_of(recipe) if isinstance(outcome, BuiltQuestion)]


def test_sessions_stay_messages_with_their_dates(tmp_path) -> None:
    [built] = built_by(history_recipe(tmp_path, [memory_row(1, sessions=2)]))
    messages = messages_of(built.context)
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "assistant"]
    assert messages[0]["content"] == f"[2023/05/10]\nRow 1, session 0, turn 0: {'x' * 20}"
    assert messages[1]["content"] == f"Row 1, session 0, turn 1: {'x' * 20}"
    assert built.context.text.startswith("[1] user: [2023/05/10]\nRow 1")
    assert built.context.context_id == text_id(built.context.text)
    prompt = sample_prompt(built.example, built.context, "default", MODEL)
    assert prompt.messages[0] == {"role": "system", "content": "Be brief."}
    assert list(prompt.messages[1:-1]) == messages
    assert prompt.messages[-1]["content"].startswith("Question: Today is 2023/05/30. What was it?")
    assert "{context}" not in prompt.messages[-1]["content"]


def test_a_plan_gives_the_messages_back_and_a_published_prompt_its_context(tmp_path) -> None:
    rows = [memory_row(1), {**memory_row(2, turns=3)}]  # the second ends with the user's turn
    recipe = history_recipe(tmp_path, rows)
    store = open_store(recipe.store)
    plan = make_plan(recipe, store)
    examples, contexts = load_shard(store, plan, 0)
    assert len(examples) == 2
    for example in examples:
        context = contexts[example.context_id]
        messages = list(sample_prompt(example, context, "default", MODEL).messages)
        roles = [message["role"] for message in messages[1:]]
        assert roles == ["user" if place % 2 == 0 else "assistant" for place in range(len(roles))]
        row = {"strategy": "default", "language": "en", "question": example.question, "context_id": context.context_id}
        assert context_in(messages, row) == context.text
        assert context_in(messages, {**row, "context_id": "0" * 64}) is None


def test_sessions_of_other_rows_stand_between_up_to_the_target(tmp_path) -> None:
    rows = [memory_row(number, sessions=4) for number in range(20)]
    for row, built in zip(rows, built_by(history_recipe(tmp_path, rows, fill=True)), strict=True):
        text = built.context.text
        number = row["question_id"].removeprefix("q")
        own = [text.index(f"Row {number}, session {session}, turn 0") for session in range(4)]
        assert own == sorted(own)
        assert 700 < built.context.tokens <= 1024
        others = {part.split(",")[0] for part in text.split("Row ")[1:]} - {number}
        assert len(others) >= 2
        dates = [title for title in built.context.span_titles if title]
        assert dates == sorted(dates)


def test_the_middle_is_cut_by_whole_turns_and_the_answers_session_stays(tmp_path) -> None:
    row = memory_row(1, sessions=9, turns=4, length=100, answer_in=4)
    [whole] = built_by(history_recipe(tmp_path, [row], window=16384))
    [built] = built_by(history_recipe(tmp_path, [row], window=2048))
    assert built.prompt_tokens <= 2048 - 64 < whole.prompt_tokens
    assert "turns are left out here]" in built.context.text
    for turn in range(4):
        assert f"Row 1, session 4, turn {turn}: {'x' * 100}" in built.context.text
    assert "session 8, turn 3" in built.context.text
    assert built.context.text.count("x" * 100) * 100 == built.context.text.count("x")
    [drop] = outcomes_of(history_recipe(tmp_path, [memory_row(1, sessions=1, turns=4, length=900)], window=2048))
    assert isinstance(drop, Drop)
    assert drop.reason == "prompt_too_long"


def test_a_trajectory_is_turns_of_user_and_model_with_its_tools_as_text(tmp_path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"q": "bridge"}'}}
    messages = [
        {"role": "system", "content": "You mend code."},
        {"role": "user", "content": "Find the bridge."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "1901"},
        {"role": "assistant", "content": "It opened in 1901."},
    ]
    rows = [{"id": "t", "messages": messages, "question": "Which step found the year?", "answer": "the search"}]
    [built] = built_by(history_recipe(tmp_path, rows))
    assert messages_of(built.context) == [
        {"role": "user", "content": "[system message]\nYou mend code.\n\nFind the bridge."},
        {"role": "assistant", "content": '[calls the tool search]\n{"q": "bridge"}'},
        {"role": "user", "content": "[result of the tool search]\n1901"},
        {"role": "assistant", "content": "It opened in 1901."},
    ]
    assert built.example.references == ("the search",)


def test_rows_without_messages_are_drops(tmp_path) -> None:
    recipe = small_recipe(tmp_path, [{"question": "Q?", "context": "text"}], contexts={"build": "history"})
    [drop] = outcomes_of(recipe)
    assert isinstance(drop, Drop)
    assert drop.reason == "no_messages"


def test_chunks_begin_where_turns_begin(tmp_path) -> None:
    [built] = built_by(history_recipe(tmp_path, [memory_row(1, sessions=4, turns=4, length=60)]))
    text = built.context.text
    starts = np.arange(len(text), dtype=np.int32)  # a token for each character
    turns = turn_starts(built.context)
    assert all(text[start:].startswith(f"[{number}] ") for number, start in enumerate(turns, 1))
    borders = chunk_borders(starts, 300, turns)
    assert borders
    assert set(borders) <= set(turns)
    edges = [0, *borders, len(text)]
    assert all(end - start <= 300 for start, end in itertools.pairwise(edges))
    small = chunk_borders(starts, 50, turns)  # a turn that is longer is cut, and the next begins with a turn
    assert set(turns[1:]) <= set(small)


@pytest.mark.medium
def test_the_same_history_comes_from_any_number_of_processes(tmp_path, monkeypatch) -> None:
    from tasks.planning import building

    monkeypatch.setattr(building, "SMALL_CHARACTERS", 0)
    monkeypatch.setattr(building, "_BATCH_QUESTIONS", 3)
    rows = [memory_row(number, sessions=4) for number in range(9)]
    recipe = history_recipe(tmp_path, rows, fill=True)
    outcomes = []
    for processes in (1, 2):
        execution = recipe.execution.model_copy(update={"planning_processes": processes})
        outcomes.append(outcomes_of(recipe.model_copy(update={"execution": execution})))
    assert outcomes[0] == outcomes[1]
    assert json.loads(recipe.model_dump_json())["contexts"]["options"] == {"fill": True}
