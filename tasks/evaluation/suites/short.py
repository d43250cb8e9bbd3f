"""Short abilities: rows of GSM8K, ARC and MMLU, or of their shape, without a context.

    GSM8K   {"question", "answer": "... #### 42"}
    ARC     {"question", "choices": {"text": [...], "label": [...]}, "answerKey"}
    MMLU    {"question", "choices": [...], "answer": 2, "subject"}: a number counts from 0

A row with options is a multiple choice, measured as in choice.py. Of a row without, the answer is the number after the
last "Answer:" or "####", in \\boxed{}, or else the last number of the text; it is right when it has the same value. An
answer without a number is wrong. Zero-shot, with the steps written out: figures of a base model with examples are
others; `longmill evaluate --lm-eval` runs the field's tool.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import Field

from infra.canonical import fingerprint
from infra.errors import RecipeError
from infra.models.tokens import Tokenizer
from infra.recipe import Recipe
from tasks.choices import LETTERS
from tasks.evaluation.suites import Suite, SuiteQuestion
from tasks.evaluation.suites.choice import ChoiceSettings, accuracy, in_orders
from tasks.metrics import CHOICE, final_answer
from tasks.questions.choices import make_choice_question, options_field
from tasks.questions.question import SourceRow, fault, text_field
from tasks.questions.rows import read_rows
from tasks.records.example import Context, Drop, Example

NUMBER = "number"  # kind of a question whose answer is a number
_NUMBER = re.compile(r"[-−]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|[-−]?\.\d+")
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")


class ShortSettings(ChoiceSettings):
    """How rows are read."""

    task: str = Field("", description="name of the task; without it, the row's `subject`, or the form of the answer")
    orders: Annotated[int, Field(ge=1, le=26)] = Field(1, description="orders of the options that are asked about")


def _generate(settings: ShortSettings, recipe: Recipe, tokenizer: Tokenizer) -> Iterator[SuiteQuestion]:
    source = settings.questions
    if source is None:
        raise RecipeError(
            "evaluation.suites[short]: give `questions: {source: FILE}`, a file of GSM8K's, ARC's or MMLU's"
        )
    rows: Iterable[SourceRow] = read_rows(source.source, source.subset, source.split)
    for number, row in enumerate(rows):
        if number == source.limit:
            return
        example = _example(row, source.language)
        task = settings.task or str(row.values.get("subject") or "") or example.kind
        context = Context(example.example_id, "", 0, (), (), ())  # of its own, so that calls go to all endpoints
        yield SuiteQuestion(example, context, task)


def _example(row: SourceRow, language: str) -> Example:
    question = text_field(row, "question", "input", required=True) or ""
    options = options_field(row, "choices", "options")
    example_id = str(row.values.get("id") or fingerprint([question, list(options)])[:16])
    if not options:
        reference = (text_field(row, "answer", "target", required=True) or "").rpartition("####")[2].strip()
        if number_in(reference) is None:
            raise fault(row, "answer", f"holds no number: {reference[:40]!r}", "give options, or end it with `#### 42`")
        return Example(example_id, question, example_id, (reference,), NUMBER, language, "{}")
    built = make_choice_question(row, example_id, question, options, [_right_letter(row, options)], language)
    if isinstance(built, Drop):
        problem = built.detail.removeprefix(f"row {row.number}: ").partition(";")[0]
        field = "answerKey" if "answerKey" in row.values else "answer"
        raise fault(row, field, problem, "give the right option's letter, label or place")
    return Example(example_id, built.question, example_id, built.references, CHOICE, language, "{}")


def _right_letter(row: SourceRow, options: tuple[str, ...]) -> str:
    value: Any = row.values.get("answerKey", row.values.get("answer"))
    if isinstance(value, int) and 0 <= value < len(options):
        return LETTERS[value]
    choices = row.values.get("choices")
    labels = choices.get("label") if isinstance(choices, dict) else None
    if isinstance(labels, (list, tuple)) and value in labels:
        return LETTERS[list(labels).index(value)]
    return str(value)


def _prepare(question: SuiteQuestion, settings: ShortSettings, seed: int) -> SuiteQuestion:
    return question if question.example.kind == NUMBER else in_orders(question, settings, seed)


def _accuracy(text: str, example: Example, context: Context) -> float | None:
    if example.kind == CHOICE:
        return accuracy(text, example, context)
    reference = number_in(example.references[0])
    assert reference is not None  # checked when it was read
    number = number_in(text)
    return float(number is not None and abs(number - reference) < 1e-6 * max(1.0, abs(reference)))


def number_in(text: str) -> float | None:
    """The number that a text gives as its answer; None where it holds none."""
    after = text.rpartition("####")[2] if "####" in text else final_answer(text)
    boxed = _BOXED.findall(text)
    places = [after] if after != text.strip() else [*boxed[-1:], text]
    for place in places:
        numbers = _NUMBER.findall(place.replace("\u00a0", ""))
        if numbers:
            first = after != text.strip() or (boxed and place == boxed[-1])
            return float((numbers[0] if first else numbers[-1]).replace(",", "").replace("−", "-"))
    return None


SUITE = Suite(
    "short",
    {"accuracy": _accuracy},
    about="short abilities: rows of the shape of GSM8K, ARC or MMLU",
    settings=ShortSettings,
    generate=_generate,
    prepare=_prepare,
    prompt=lambda example, settings: "evaluate-number" if example.kind == NUMBER else "evaluate-options",
    answer_tokens={"": 512},
    average="tasks",
)
