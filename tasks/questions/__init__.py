"""Questions: read from a source, one adapter per format, checked, every unusable row a counted drop.

Hard faults (a file that cannot be read, a missing field, a wrong type) raise InputError and stop a plan before
anything is paid. Soft faults give a Drop of stage "read": duplicate_id, language, invalid_text, empty_question,
empty_context, no_supporting_documents, no_messages, unanswerable. A lone surrogate cannot be written as UTF-8, so its
row is dropped (invalid_text); NUL is a character like others and stays. Ids stay in memory as short digests, about 200
bytes a row, to find duplicates; nothing else does.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from infra.errors import InputError, RecipeError
from infra.plugins import find_plugins
from infra.recipe import Questions
from tasks.questions.fields import read_by_fields
from tasks.questions.guess import format_hint
from tasks.questions.question import QuestionFormat, RawQuestion, Session, SourceRow, language_code
from tasks.questions.repeats import REPEATS, FirstRows, Identity, identity
from tasks.questions.rows import read_rows
from tasks.records.example import Document, Drop

__all__ = [
    "REPEATS",
    "Build",
    "QuestionFormat",
    "RawQuestion",
    "ReadQuestion",
    "SourceRow",
    "question_format",
    "question_formats",
    "read_each",
    "read_questions",
    "read_rows",
    "source_hint",
]

NO_MESSAGES = "no_messages"  # reason of a drop
Build = Literal["given", "pooled", "history"]


def read_questions(settings: Questions, build: Build = "given") -> Iterator[RawQuestion | Drop]:
    """One RawQuestion or Drop for every question, in the source's order, of at most `settings.limit` rows.

    `build` decides what a row needs: a context or documents (given), or supporting documents (pooled).
    Raises InputError for a hard fault and RecipeError for an unknown format.
    """
    first_rows = FirstRows()
    rows = read_rows(settings.source, settings.subset, settings.split)
    for read in read_each(itertools.islice(rows, settings.limit), settings, build):
        yield first_rows.repetition(read.identity) or read.outcome


@dataclass(frozen=True, slots=True)
class ReadQuestion:
    """A question of a row, or why it cannot be used, as if no other row had its id.

    `identity` tells whether another row has; None for a drop of the format itself, which counts as it is.
    """

    outcome: RawQuestion | Drop
    identity: Identity | None


def read_each(rows: Iterable[SourceRow], settings: Questions, build: Build) -> Iterator[ReadQuestion]:
    """Every question of some rows, each read by itself. Raises as `read_questions` does."""
    form = question_format(settings.format)
    read = read_by_fields(settings.fields) if settings.fields else form.read
    for source_row in rows:
        try:
            for row in form.rows(source_row):
                outcome = read(row, settings.language)
                if isinstance(outcome, Drop):
                    yield ReadQuestion(outcome, None)
                else:
                    of_row = identity(outcome, row)
                    yield ReadQuestion(_checked(outcome, of_row, build), of_row)
        except InputError as error:
            hint = format_hint(source_row.values, settings, question_formats().values())
            raise InputError(f"{error}. {hint}" if hint else str(error)) from error


def source_hint(settings: Questions) -> str:
    """A sentence on how to read a source whose rows are all drops, from its first row; empty when there is none."""
    row = next(read_rows(settings.source, settings.subset, settings.split))
    return format_hint(row.values, settings, question_formats().values())


def question_format(name: str) -> QuestionFormat:
    """A format by its name. Raises RecipeError naming those that exist."""
    if name not in question_formats():
        raise RecipeError(f"questions.format: there is no format {name!r}; there are: {', '.join(question_formats())}")
    return question_formats()[name]


@cache
def question_formats() -> dict[str, QuestionFormat]:
    """All formats by name: every file of this folder that holds a FORMAT."""
    return find_plugins(__name__, "FORMAT")


def _checked(question: RawQuestion, of_row: Identity, build: Build) -> RawQuestion | Drop:
    """The question with its language as "en" or "zh", or the reason why it cannot be used."""
    readable_id, place = of_row.example_id, of_row.place
    language = language_code(question.language)
    unwritable = _unwritable_part(question)
    if unwritable:
        return Drop(readable_id, "read", "invalid_text", f"{place}: {unwritable} holds a lone surrogate")
    if language is None:
        return Drop(readable_id, "read", "language", f"{place}: {question.language[:40]!r} is neither en nor zh")
    if not question.question.strip():
        return Drop(readable_id, "read", "empty_question", place)
    if build == "pooled" and not question.documents:
        return Drop(readable_id, "read", "no_supporting_documents", place)
    if build == "history" and not question.sessions:
        return Drop(readable_id, "read", NO_MESSAGES, place)
    if build == "given" and not (question.context or "").strip() and not question.documents:
        return Drop(readable_id, "read", "empty_context", place)
    return replace(question, language=language)


def _unwritable_part(question: RawQuestion) -> str:
    """The name of a part that cannot be written as UTF-8; empty when there is none."""
    parts = {
        "id": [question.example_id],
        "question": [question.question],
        "context": [question.context or ""],
        "answers": question.references,
        "kind": [question.kind],
        "documents": _texts_of(question.documents),
        "distractors": _texts_of(question.distractors),
        "sessions": _texts_of_sessions(question.sessions),
    }
    for name, texts in parts.items():
        for text in texts:
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:
                return name
    return ""


def _texts_of(documents: Iterable[Document]) -> list[str]:
    texts = []
    for document in documents:
        texts += [document.title, document.text]
    return texts


def _texts_of_sessions(sessions: Iterable[Session]) -> list[str]:
    texts = []
    for session in sessions:
        texts.append(session.time)
        for turn in session.turns:
            texts += [turn.text, turn.name, turn.time, turn.call_id, *turn.call_ids]
            for call in turn.calls:
                texts += call
    return texts
