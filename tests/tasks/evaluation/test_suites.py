"""The metrics of suites: LongBench's by task, options in several orders, and rows of short tasks."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.errors import InputError, RecipeError
from tasks.choices import option_lines
from tasks.evaluation.suites import SuiteQuestion, all_suites, find_suite
from tasks.evaluation.suites.longbench import LongBenchSettings, edit_similarity
from tasks.evaluation.suites.short import ShortSettings, number_in
from tasks.metrics import CHOICE
from tasks.prompts import load_prompt
from tasks.questions import RawQuestion, SourceRow, question_format
from tasks.records.example import Context, Drop, Example

KINDS = ("narrativeqa", "qasper", "qmsum", "gov_report", "dureader", "hotpotqa", "lcc", "trec", CHOICE, "number")
CONTEXT = Context("c", "text", 1, (), (), ())


def example_of(kind: str, *references: str, metadata: str = "{}", question: str = "Which?") -> Example:
    return Example("x", question, "c", references, kind, "en", metadata)


@pytest.mark.parametrize(
    ("task", "text", "references", "score"),
    [
        ("hotpotqa", "Ann Lee", ["Ann"], 2 / 3),
        ("gov_report_e", "the dam opened", ["the dam opened"], 1.0),
        ("dureader", "水库建成", ["水库"], 2 / 3),
        ("passage_count", "There are 3 or 4.", ["3"], 0.5),
        ("passage_count", "None.", ["3"], 0.0),
        ("passage_retrieval_en", "Paragraph 12", ["Paragraph 12"], 1.0),
        ("passage_retrieval_zh", "段落3", ["段落30"], 0.0),
        ("triviaqa", "Ann Lee\nPassage: more text that does not count", ["Ann Lee"], 1.0),
        ("lcc", "```python\nx = 1\n```", ["x = 1"], 1.0),
        ("qasper", "blue", ["red", "blue"], 1.0),
    ],
)
def test_longbench_measures_by_task(task: str, text: str, references: list[str], score: float) -> None:
    metric = find_suite("longbench").metrics["score"]
    assert metric(text, example_of(task, *references), CONTEXT) == pytest.approx(score)


def test_a_class_counts_less_where_others_are_named_too() -> None:
    metric = find_suite("longbench").metrics["score"]
    classes = json.dumps({"all_classes": ["Number", "Person", "Number of people", "City"]})
    example = example_of("trec", "Number of people", metadata=classes)
    assert metric("Number of people", example, CONTEXT) == 1.0  # "Number" is a part of the right one
    assert metric("Number of people or City", example, CONTEXT) == 0.5
    assert metric("City", example, CONTEXT) == 0.0


def test_edit_similarity_is_of_the_first_line_that_is_code() -> None:
    assert edit_similarity("# a comment\nreturn total", "return total") == 1.0
    assert 0 < edit_similarity("return x", "return total") < 1
    assert edit_similarity("// nothing", "x") == 0.0


def test_rows_of_the_code_tasks_are_questions_in_a_format_of_their_own() -> None:
    row = {"context": "def f(x):\n    y = x\n", "input": "", "answers": ["    return y"], "dataset": "lcc", "_id": "1"}
    read = question_format("longbench_code").read
    question = read(SourceRow("rows.jsonl", 1, {**row, "language": "python"}), "en")
    assert isinstance(question, RawQuestion)
    assert (question.context, question.question, question.language) == ("def f(x):\n", "    y = x\n", "en")
    with_code = read(SourceRow("rows.jsonl", 1, {**row, "input": "z = ", "dataset": "repobench-p_e"}), "en")
    assert isinstance(with_code, RawQuestion)
    assert (with_code.context, with_code.question) == (row["context"], "z = ")
    other = read(SourceRow("rows.jsonl", 1, {**row, "dataset": "qasper"}), "en")
    assert isinstance(other, Drop)
    assert other.reason == "no_code"


def test_open_answers_of_longbench_are_asked_plainly_and_may_be_long() -> None:
    suite = find_suite("longbench")
    example = example_of("narrativeqa", "x")
    assert suite.prompt(example, LongBenchSettings()) == "evaluate-story"
    opened = LongBenchSettings(answers="open")
    assert suite.prompt(example, opened) == "evaluate-plain"
    assert opened.max_tokens == 1024
    assert LongBenchSettings(answers="open", max_tokens=64).max_tokens == 64


def choice_question(right: str = "B") -> SuiteQuestion:
    options = ["one", "two", "three", "four"]
    references = (right, options["ABCD".index(right)])
    row = json.dumps({"difficulty": "hard", "length": "short", "domain": "Law"})
    text = f"Which?\n\n{option_lines(options)}\n\nChoose."
    return SuiteQuestion(Example("x", text, "c", references, CHOICE, "en", row), CONTEXT)


def test_options_come_in_several_orders_with_the_right_one_at_another_place_each_time() -> None:
    suite = find_suite("longbench_v2")
    prepared = suite.prepare(choice_question(), suite.settings(), 3)
    assert (prepared.task, prepared.groups) == ("Law", {"difficulty": "hard", "size": "short"})
    forms = [example for example, _ in prepared.all_forms]
    assert [form.references[0] for form in forms] == ["B", "C", "D", "A"]
    assert {form.references[1] for form in forms} == {"two"}
    for form in forms:
        letter = form.references[0]
        assert f"\n{letter}. two\n" in form.question
        assert suite.metrics["accuracy"](f"Answer: {letter}", form, CONTEXT) == 1.0
        assert form.question.endswith("\n\nChoose.")
    assert forms[0] == choice_question().example
    assert prepared == suite.prepare(choice_question(), suite.settings(), 3)
    assert [f.question for f in forms] != [
        f.question for f, _ in suite.prepare(choice_question(), suite.settings(), 4).all_forms
    ]
    once = suite.prepare(choice_question(), suite.settings.model_validate({"orders": 1}), 3)
    assert once.forms == ()


def short_questions(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> list[SuiteQuestion]:
    file = folder / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    own = ShortSettings.model_validate({"questions": {"source": str(file)}, **settings})
    generate = find_suite("short").generate
    assert generate is not None
    return list(generate(own, None, None))


def test_rows_of_gsm8k_arc_and_mmlu_are_read_by_their_shape(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"question": "How many?", "answer": "18 - 3 = <<18-3=15>>15\n#### 1,015"},
        {
            "id": "Mercury_1",
            "question": "Which?",
            "choices": {"text": ["a", "b"], "label": ["1", "2"]},
            "answerKey": "2",
        },
        {"question": "Who?", "subject": "law", "choices": ["w", "x", "y", "z"], "answer": 3},
    ]
    questions = short_questions(tmp_path, rows)
    assert [question.example.references for question in questions] == [("1,015",), ("B", "b"), ("D", "z")]
    assert [question.task for question in questions] == ["number", CHOICE, "law"]
    suite = find_suite("short")
    names = [suite.prompt(question.example, suite.settings()) for question in questions]
    assert names == ["evaluate-number", "evaluate-options", "evaluate-options"]
    scores = []
    for question, text in zip(questions, ("So:\nAnswer: 1015.0", "Answer: B", "Answer: A"), strict=True):
        scores.append(suite.metrics["accuracy"](text, question.example, question.context))
    assert scores == [1.0, 1.0, 0.0]
    assert len(short_questions(tmp_path, rows, questions={"source": str(tmp_path / "rows.jsonl"), "limit": 2})) == 2


def test_a_row_that_is_no_short_question_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rows.jsonl, row 1, field 'answer': holds no number"):
        short_questions(tmp_path, [{"question": "Why?", "answer": "because"}])
    with pytest.raises(InputError, match="row 1, field 'answer'"):
        short_questions(tmp_path, [{"question": "Which?", "choices": ["a", "b"], "answer": 7}])
    generate = find_suite("short").generate
    assert generate is not None
    with pytest.raises(RecipeError, match=r"suites\[short\]: give `questions"):
        list(generate(ShortSettings(), None, None))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("First 3, then 4.\nAnswer: 12", 12),
        ("It is $1,234.50 in all", 1234.5),
        (r"So \boxed{-7} it is, of 9", -7),
        ("#### 42", 42),
        ("3 apples and 5 pears make 8", 8),
        ("答案：−2", -2),
        ("none", None),
        ("Answer: 7 of 10", 7),
    ],
)
def test_the_number_of_an_answer(text: str, number: float | None) -> None:
    assert number_in(text) == number


def test_every_suite_says_what_it_is_and_has_its_prompts_in_both_languages() -> None:
    for suite in all_suites().values():
        assert suite.about, suite.name
        for kind in KINDS:
            name = suite.prompt(example_of(kind, "x"), suite.settings())
            for language in ("en", "zh"):
                if name is not None:
                    assert "{question}" in load_prompt(name, language).text
