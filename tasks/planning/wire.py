"""Questions, their outcomes and built ranges as JSON, between the process that plans and its workers."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any

from infra import errors
from tasks.contexts import BuiltQuestion
from tasks.planning.built_range import BuiltRange, BuiltRow
from tasks.questions import RawQuestion
from tasks.questions.question import Session
from tasks.questions.repeats import Identity
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
        value["sessions"] = [session.to_json() for session in value["sessions"]]
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
    return list(map(_outcome_to_json, outcomes))


def outcomes_from_json(values: Iterable[Mapping[str, Any]]) -> list[BuiltQuestion | Drop]:
    """The inverse of `outcomes_to_json`."""
    return list(map(_outcome_from_json, values))


def built_range_to_json(built: BuiltRange) -> dict[str, Any]:
    """JSON-ready values."""
    rows = []
    for row in built.rows:
        identity = None if row.identity is None else asdict(row.identity)
        rows.append([identity, None if row.outcome is None else _outcome_to_json(row.outcome)])
    fault = None if built.fault is None else [type(built.fault).__name__, str(built.fault)]
    return {"rows": rows, "fault": fault}


def built_range_from_json(value: Mapping[str, Any]) -> BuiltRange:
    """The inverse of `built_range_to_json`."""
    rows = []
    for identity, outcome in value["rows"]:
        rows.append(
            BuiltRow(
                None if identity is None else Identity(**identity),
                None if outcome is None else _outcome_from_json(outcome),
            )
        )
    fault = None
    if value["fault"] is not None:
        name, message = value["fault"]
        fault = getattr(errors, name)(message)
    return BuiltRange(rows, fault)


def _outcome_to_json(outcome: BuiltQuestion | Drop) -> dict[str, Any]:
    if isinstance(outcome, Drop):
        return {"drop": {name: getattr(outcome, name) for name in _DROP}}
    return {
        "example": {name: getattr(outcome.example, name) for name in _EXAMPLE},
        "context": {name: getattr(outcome.context, name) for name in _CONTEXT},
        "prompt_tokens": outcome.prompt_tokens,
        "short": outcome.short,
        "special_tokens": sorted(outcome.special_tokens),
        "sample_tokens": outcome.sample_tokens,
        "refused_tools": outcome.refused_tools,
        "silent_turns": outcome.silent_turns,
    }


def _outcome_from_json(value: Mapping[str, Any]) -> BuiltQuestion | Drop:
    if "drop" in value:
        return Drop(**value["drop"])
    example, context = dict(value["example"]), dict(value["context"])
    for name in ("span_starts", "span_ends", "span_titles", "span_roles"):
        context[name] = None if context[name] is None else tuple(context[name])
    for name in ("evidence_starts", "evidence_ends"):
        example[name] = None if example[name] is None else tuple(example[name])
    return BuiltQuestion(
        Example(**{**example, "references": tuple(example["references"])}),
        Context(**context),
        value["prompt_tokens"],
        value["short"],
        frozenset(value["special_tokens"]),
        value["sample_tokens"],
        value["refused_tools"],
        value["silent_turns"],
    )
