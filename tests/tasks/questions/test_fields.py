"""Rows that a recipe describes with `questions.fields`; and the settings that are guessed for rows of no format."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.errors import InputError, RecipeError
from infra.recipe import Questions, parse_recipe
from infra.store import open_store
from tasks.metrics import CHOICE
from tasks.planning.make_plan import make_plan
from tasks.questions import RawQuestion, question_formats, read_questions
from tasks.questions.fields import values_at
from tasks.questions.guess import guess_format
from tasks.records.example import Drop
from tests.support.planning import small_recipe, write_rows


def read(folder: Path, row: dict[str, Any], **fields: Any) -> RawQuestion:
    (question,) = read_questions(settings(folder, row, **fields))
    assert isinstance(question, RawQuestion)
    return question


def settings(folder: Path, row: dict[str, Any], **fields: Any) -> Questions:
    return Questions(source=str(write_rows(folder / "rows.jsonl", [row])), fields=fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("a", ["x"]),
        ("b.c", ["y"]),
        ("b.d", []),
        ("list.1", ["two"]),
        ("list.9", []),
        ("list.*", ["one", "two"]),
        ("parts.*.text", ["p", "q"]),
        ("dotted.name", ["z"]),
        ("nothing", []),
        ("null", []),
    ],
)
def test_where_a_path_leads(path: str, values: list[Any]) -> None:
    row = {
        "a": "x",
        "b": {"c": "y"},
        "list": ["one", "two"],
        "parts": [{"text": "p"}, {"text": "q"}, {}],
        "dotted.name": "z",
        "null": None,
    }
    assert values_at(row, path) == values


def test_every_part_of_a_question_has_a_path(tmp_path: Path) -> None:
    row = {
        "meta": {"uid": 7, "type": "people", "lang": "zh"},
        "ask": {"text": "谁？"},
        "parts": [{"text": "One."}, {"text": "Two."}],
        "gold": [{"text": "Ann"}, {"text": "Lee"}],
    }
    question = read(
        tmp_path,
        row,
        question="ask.text",
        context="parts.*.text",
        answers="gold.*.text",
        id="meta.uid",
        kind="meta.type",
        language="meta.lang",
    )
    assert (question.example_id, question.question, question.context) == ("7", "谁？", "One.\n\nTwo.")
    assert (question.references, question.kind, question.language) == (("Ann", "Lee"), "people", "zh")


def test_rows_without_a_question_get_the_template(tmp_path: Path) -> None:
    row = {"report": "Text.", "meta": {"title": "The {dam}"}, "summary": "S"}
    question = read(tmp_path, row, context="report", template="Summarise “{meta.title}”.", answers="summary")
    assert (question.question, question.references) == ("Summarise “The {dam}”.", ("S",))
    row["q"] = "Who?"
    assert read(tmp_path, row, context="report", question="q", template="Summarise.").question == "Who?"


def test_a_separator_finds_the_question_at_the_end(tmp_path: Path) -> None:
    row = {"messages": [{"content": "One.\n\nTwo.\n\nWho?"}]}
    question = read(tmp_path, row, context="messages.0.content", separator="\n\n")
    assert (question.context, question.question) == ("One.\n\nTwo.", "Who?")
    (drop,) = read_questions(settings(tmp_path, row, context="messages.0.content", separator="###"))
    assert isinstance(drop, Drop)
    assert drop.reason == "no_separator"


@pytest.mark.parametrize("choices", ["options", ["options.0", "options.1"], "options.*"])
def test_choices_by_one_path_or_several(tmp_path: Path, choices: Any) -> None:
    row = {"q": "Who?", "text": "C", "options": ["Ann", "Bo"], "gold": "B"}
    question = read(tmp_path, row, question="q", context="text", choices=choices, answers="gold")
    assert (question.kind, question.references) == (CHOICE, ("B", "Bo"))


def test_a_path_that_leads_nowhere_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"field 'txt': is missing, but questions\.fields takes the context from it"):
        list(read_questions(settings(tmp_path, {"q": "Who?", "text": "C"}, question="q", context="txt")))
    with pytest.raises(InputError, match="field 'q': holds dict instead of text; add the rest of the path"):
        list(read_questions(settings(tmp_path, {"q": {"text": "Who?"}, "text": "C"}, question="q", context="text")))


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ({"fields": {"context": "c"}}, "say where the question stands"),
        ({"fields": {"question": "q"}}, r"fields\.context"),
        ({"fields": {"context": "c", "question": "q", "separator": "x"}}, "leave `question` out, or the separator"),
        ({"fields": {"context": "c", "question": "q"}, "format": "squad"}, "leave `format` out"),
        ({"fields": {"context": "c", "question": "q", "frage": "f"}}, "no such key"),
    ],
)
def test_fields_that_contradict_are_refused(tmp_path: Path, questions: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        small_recipe(tmp_path, questions=questions)


def test_a_recipe_without_fields_is_named_as_before_there_were_any(tmp_path: Path) -> None:
    plain = small_recipe(tmp_path)
    assert "fields" not in plain.identity()["questions"]
    named = small_recipe(tmp_path, questions={"fields": {"question": "q", "context": "c"}})
    assert named.identity() != plain.identity()
    assert parse_recipe(named.model_dump(mode="json")) == named


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        (
            {"query": "Q", "article": "A", "answer": "x"},
            {"context": "article", "question": "query", "answers": "answer"},
        ),
        (
            {"question": {"text": "Q"}, "passage": {"text": "P"}, "answers": [{"text": "x"}], "options": ["x", "y"]},
            {"context": "passage.text", "question": "question.text", "answers": "answers.*.text", "choices": "options"},
        ),
        (
            {"article": "A", "highlights": "h"},
            {"context": "article", "template": "Summarise the text on one page.", "answers": "highlights"},
        ),
        (
            {
                "prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": "D\n\nQ"}],
                "chosen": [],
                "rejected": [],
            },
            {"context": "prompt.1.content", "separator": "\n\n"},
        ),
        (
            {"conversations": [{"from": "human", "value": "D\n\nQ"}]},
            {"context": "conversations.0.value", "separator": "\n\n"},
        ),
    ],
)
def test_fields_are_guessed_by_their_names(tmp_path: Path, row: dict[str, Any], fields: dict[str, str]) -> None:
    guess = guess_format(row, question_formats().values())
    assert guess is not None
    (setting,) = guess.settings
    assert yaml.safe_load(setting.removeprefix("questions.fields=")) == fields
    assert read(tmp_path, row, **fields).context


def test_nothing_is_guessed_without_a_document() -> None:
    assert guess_format({"question": "Q", "answer": "x"}, question_formats().values()) is None


def test_a_plan_of_drops_says_what_to_do(tmp_path: Path) -> None:
    given = [{"question": "Q", "context": "C"}]
    pooled = small_recipe(tmp_path, given, contexts={"build": "pooled", "max_tokens": 2048, "min_tokens": 1024})
    with pytest.raises(
        InputError, match=r"1 no_supporting_documents\. The first: row 1 .* need contexts\.build: given"
    ):
        make_plan(pooled, open_store(pooled.store))
    asked = small_recipe(tmp_path, [{"question": "", "context": "C"}])
    with pytest.raises(InputError, match=r"Rows without a question get one from questions\.fields\.template"):
        make_plan(asked, open_store(asked.store))
