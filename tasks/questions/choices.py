"""Multiple-choice questions: options from a row, the text with lettered options, the right option as references.

The question's text comes from the prompt file `question-choices.txt`. Its references are the right letter and the
option's text, its kind is "multiple_choice". A row whose answer names no option, or several, is a drop
"unclear_choice": a number counts from 0 in some files and from 1 in others.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tasks.choices import LETTERS, option_lines
from tasks.metrics import CHOICE
from tasks.questions.question import RawQuestion, SourceRow, fault, make_question, question_text
from tasks.records.example import Document, Drop
from tasks.sub_em import normalised

_LETTERED = re.compile(r"[(\[（【]?\s*([A-Za-z])\s*(?:[)\]）】.:：、]\s*(.*))?", re.DOTALL)


def options_field(row: SourceRow, *names: str) -> tuple[str, ...]:
    """The options of the first of these fields that the row has, in their order; () when there are none.

    A field holds a list of texts, an object {"A": "...", "B": "..."}, or one {"label": [...], "text": [...]}.
    Raises InputError for anything else.
    """
    for name in names:
        value = row.values.get(name)
        if value is None or (isinstance(value, (list, tuple, Mapping)) and not value):
            continue
        return checked_options(row, name, value)
    return ()


def checked_options(row: SourceRow, name: str, value: Any) -> tuple[str, ...]:
    """The options in a value of a field. Raises InputError."""
    if isinstance(value, Mapping):
        if isinstance(value.get("text"), (list, tuple)):
            value = value["text"]
        elif all(isinstance(key, str) and len(key) == 1 for key in value):
            value = [value[key] for key in sorted(value)]
    texts = isinstance(value, (list, tuple)) and all(isinstance(option, str) for option in value)
    if not texts or not 2 <= len(value) <= len(LETTERS):
        problem = f"is no list of 2 to {len(LETTERS)} texts, as the options of a question are"
        raise fault(row, name, problem, f'write {name} as ["...", "..."], or give the field another name')
    return tuple(" ".join(option.split()) for option in value)  # an option is a line of the question


def make_choice_question(
    row: SourceRow,
    question_id: str | None,
    question: str,
    options: Sequence[str],
    answers: Sequence[str],
    language: str,
    *,
    context: str | None = None,
    documents: Sequence[Document] = (),
    distractors: Sequence[Document] = (),
    metadata: Mapping[str, Any] | None = None,
) -> RawQuestion | Drop:
    """A RawQuestion with lettered options; `answers` name the right one, by letter or text. See the top of the file."""
    text = question
    if question.strip():  # an empty question stays empty: it is a drop
        text = question_text("choices", language, question=question.strip(), choices=option_lines(options))
    built = make_question(
        question_id,
        text,
        language,
        context=context,
        documents=documents,
        distractors=distractors,
        kind=CHOICE,
        metadata=metadata,
    )
    right: set[int] = set()
    for answer in answers:
        indices = _indices(answer, options)
        right |= indices
        if not indices:
            return _unclear(built, row, f"the answer {answer[:40]!r} is none of the options and no letter of one")
    if len(right) > 1:
        return _unclear(built, row, f"the answer {list(answers)!r} names several options")
    if not right:
        return built
    index = right.pop()
    return replace(built, references=(LETTERS[index], options[index]))


def _indices(answer: str, options: Sequence[str]) -> set[int]:
    """The options that an answer names: those with its text, and that with its letter."""
    answer_text = normalised(answer) or answer.strip()
    indices = set()
    for index, option in enumerate(options):
        if (normalised(option) or option.strip()) == answer_text:
            indices.add(index)
    match = _LETTERED.fullmatch(answer.strip())
    if match:
        index = LETTERS.index(match.group(1).upper())
        same_text = index < len(options) and normalised(match.group(2) or "") in ("", normalised(options[index]))
        if same_text:
            indices.add(index)
    return indices


def _unclear(question: RawQuestion, row: SourceRow, problem: str) -> Drop:
    detail = f"row {row.number}: {problem}; write the letter or the option's text"
    return Drop(question.example_id, "read", "unclear_choice", detail)
