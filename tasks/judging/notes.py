"""The judge's notes on the chunks of a context: what completeness is rated by.

Notes are taken once per context and question, in the language of the chunk, and stand in the evidence of every answer.
"""

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field

from infra.canonical import canonical_json
from infra.recipe import Positive
from tasks.chunks import Span
from tasks.judging.asking import judge_prompt, judge_settings
from tasks.judging.context import AnsweredQuestion, ScoringContext
from tasks.judging.rating import RatingSettings
from tasks.judging.replies import NO_NOTES, read_notes
from tasks.judging.retrieval import chunk_spans
from tasks.judging.steps import JudgeQuery, Step, Verdict, ask
from tasks.records.example import Judgement

_PART = {"en": "Part {part} of {of}:", "zh": "第{part}部分（共{of}部分）："}
_CJK = ("\u3400", "\u9fff")
_MOSTLY = 0.3  # share of CJK characters from which a chunk counts as Chinese


class CompletenessSettings(RatingSettings):
    """How notes are taken and how the rating is asked for."""

    chunk_tokens: Positive = Field(4096, description="tokens per chunk that notes are taken from")
    notes_tokens: Positive = Field(1024, description="longest notes on one chunk, in tokens")


@dataclass(frozen=True, slots=True)
class Part:
    """One chunk of the context, and the judge's notes on it. No value and no reason: the chunk holds nothing."""

    number: int
    span: Span
    notes: Verdict[str | None]


def take_notes(
    questions: Sequence[AnsweredQuestion], settings: CompletenessSettings, scoring: ScoringContext
) -> Generator[Step, Any, list[list[Part]]]:
    """The notes on every part of each question's context; none where no answer has text."""
    spans_by_question = []
    queries = []
    for question in questions:
        spans = chunk_spans(question.context, settings.chunk_tokens, scoring) if question.answers else ()
        spans_by_question.append(spans)
        for number, (start, end) in enumerate(spans, 1):
            subject = f"question {question.example.example_id}, chunk {number} of {len(spans)}"
            queries.append(_notes_query(question, question.context.text[start:end], subject, settings, scoring))
    verdicts = iter((yield from ask(queries, "chunks")))
    parts_by_question = []
    for spans in spans_by_question:
        parts_by_question.append([Part(number, span, next(verdicts)) for number, span in enumerate(spans, 1)])
    return parts_by_question


def _notes_query(
    question: AnsweredQuestion, chunk: str, subject: str, settings: CompletenessSettings, scoring: ScoringContext
) -> JudgeQuery[str | None]:
    texts = {"chunk": chunk, "question": question.example.question}
    prompt = judge_prompt("notes", _language(chunk), judge_settings(scoring).prompts, **texts)
    # Notes that fill their limit are notes all the same; asked again they would be as long.
    context_id = question.context.context_id
    return JudgeQuery("notes", prompt, context_id, read_notes, settings.notes_tokens, subject=subject)


def _language(chunk: str) -> str:
    """The language of a chunk, in which notes on it are asked for."""
    chinese = sum(_CJK[0] <= letter <= _CJK[1] for letter in chunk)
    return "zh" if chinese > _MOSTLY * len(chunk) else "en"


def notes_text(parts: Sequence[Part], language: str) -> str:
    """All notes, each under the part of the document that it came from; or the sentence that there are none."""
    label = _PART[language]
    texts = []
    for part in parts:
        if part.notes.value is not None:
            texts.append(f"{label.format(part=part.number, of=len(parts))}\n{part.notes.value}")
    return "\n\n".join(texts) or NO_NOTES[language]


def with_notes(judgement: Judgement, parts: Sequence[Part]) -> Judgement:
    notes = []
    keys: list[str] = []
    for part in parts:
        notes.append(
            {
                "part": part.number,
                "of": len(parts),
                "start": part.span[0],
                "end": part.span[1],
                "text": part.notes.value,
                "reason": part.notes.reason,
            }
        )
        keys.extend(part.notes.keys)
    evidence = canonical_json({**json.loads(judgement.evidence), "notes": notes}).decode()
    return replace(judgement, evidence=evidence, keys=(*keys, *judgement.keys))
