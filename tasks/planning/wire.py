"""Questions and their outcomes as JSON lines, between the process that plans and its workers."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any

from tasks.contexts import BuiltQuestion
from tasks.questions import RawQuestion
from tasks.questions.question import Session
from tasks.records.example import Context, Document, Drop, Example

_EXAMPLE = [field.name for field in fields(Example)]
_CONTEXT = [field.name for field in fields(Context)]
_QUESTION = [field.name for field in fields(RawQuestion)]
_DROP = [field.name for field in fields(Drop)]


def questions_to_json(questions: Iterable[RawQuestion]) -> list[dict[str, Any]]:
    """JSON-ready values."""
    values = []
    for question in questions:
        value = {name: getattr(question, name) for name in _QUESTION}
        for name in ("documents", "distractors"):
            value[name] = [[document.title, document.text] for document in value[name]]
        value["sessions"] = [asdict(session) for session in value["sessions"]]
        values.append(value)
    return values


def questions_from_json(values: Iterable[Mapping[str, Any]]) -> list[RawQuestion]:
    """The inverse of `questions_to_json`."""
    questions = []
    for value in values:
        parts: dict[str, Any] = {"sessions": tuple(map(Session.from_json, value["sessions"]))}
        for name in ("documents", "distractors"):
            parts[name] = tuple(Document(title, text) for title, text in value[name])
        questions.append(RawQuestion(**{**value, **parts, "references": tuple(value["references"])}))
    return questions


def outcomes_to_json(outcomes: Iterable[BuiltQuestion | Drop]) -> list[dict[str, Any]]:
    """JSON-ready values."""
    values: list[dict[str, Any]] = []
    for outcome in outcomes:
        if isinstance(outcome, Drop):
            values.append({"drop": {name: getattr(outcome, name) for name in _DROP}})
            continue
        values.append(
            {
                "example": {name: getattr(outcome.example, name) for name in _EXAMPLE},
                "context": {name: getattr(outcome.context, name) for name in _CONTEXT},
                "prompt_tokens": outcome.prompt_tokens,
                "short": outcome.short,
                "special_tokens": sorted(outcome.special_tokens),
                "sample_tokens": outcome.sample_tokens,
            }
        )
    return values


def outcomes_from_json(values: Iterable[Mapping[str, Any]]) -> list[BuiltQuestion | Drop]:
    """The inverse of `outcomes_to_json`."""
    outcomes: list[BuiltQuestion | Drop] = []
    for value in values:
        if "drop" in value:
            outcomes.append(Drop(**value["drop"]))
            continue
        example, context = value["example"], value["context"]
        for name in ("span_starts", "span_ends", "span_titles", "span_roles"):
            context[name] = None if context[name] is None else tuple(context[name])
        for name in ("evidence_starts", "evidence_ends"):
            example[name] = None if example[name] is None else tuple(example[name])
        outcomes.append(
            BuiltQuestion(
                Example(**{**example, "references": tuple(example["references"])}),
                Context(**context),
                value["prompt_tokens"],
                value["short"],
                frozenset(value["special_tokens"]),
                value["sample_tokens"],
            )
        )
    return outcomes
