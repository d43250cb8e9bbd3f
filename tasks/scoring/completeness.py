"""Completeness: does the answer give all that the context holds on the question?

The judge takes notes from each chunk of the context (or says that it holds nothing relevant), once per context
and question; then it rates each answer beside all notes, which say what part of the document they came from
(LongReward, arXiv 2410.21252). A context without anything relevant is a defined case: the notes say so, and the
judge rates the answer beside that. Where the notes of one part are missing the score is null, not a guess.
"""

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field

from infra.canonical import canonical_json
from infra.recipe import Positive, Recipe
from tasks.judging.asking import judge_prompt, judge_settings
from tasks.judging.context import AnsweredQuestion, ScoringContext
from tasks.judging.rating import RatingSettings, Subject, rate, rating_calls, rating_prompts
from tasks.judging.replies import NO_NOTES, read_notes
from tasks.judging.retrieval import Span, chunk_spans
from tasks.judging.steps import JudgeQuery, Step, Steps, Verdict, ask
from tasks.records.example import Judgement
from tasks.scoring import Scorer

NAME = "completeness"
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


def score(questions: Sequence[AnsweredQuestion], settings: CompletenessSettings, scoring: ScoringContext) -> Steps:
    """One judgement for each answer of each question."""
    parts_by_question = yield from _take_notes(questions, settings, scoring)
    subjects: list[Subject] = []
    judgements = []
    for question, parts in zip(questions, parts_by_question, strict=True):
        missing = next((part.notes.reason for part in parts if part.notes.reason is not None), None)
        for answer in question.answers:
            if missing is not None:
                unrated = answer.judged(NAME, None, f"notes: {missing}", {"rating": None})
                judgements.append(_with_notes(unrated, parts))
            else:
                texts = {"notes": _notes_text(parts, question.example.language), "question": question.example.question}
                subjects.append((question, answer, {**texts, "answer": answer.text}))
    parts_of = dict(zip([question.example.example_id for question in questions], parts_by_question, strict=True))
    for rating in (yield from rate(NAME, subjects, settings, scoring)):
        judgements.append(_with_notes(rating, parts_of[rating.example_id]))
    return judgements


def _take_notes(
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


def _notes_text(parts: Sequence[Part], language: str) -> str:
    """All notes, each under the part of the document that it came from; or the sentence that there are none."""
    label = _PART[language]
    texts = []
    for part in parts:
        if part.notes.value is not None:
            texts.append(f"{label.format(part=part.number, of=len(parts))}\n{part.notes.value}")
    return "\n\n".join(texts) or NO_NOTES[language]


def _with_notes(judgement: Judgement, parts: Sequence[Part]) -> Judgement:
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


def _calls(settings: Any, recipe: Recipe, context_tokens: int) -> dict[str, float]:
    ratings = rating_calls(NAME, settings, recipe, context_tokens)
    return {"notes": float(-(-context_tokens // settings.chunk_tokens)), **ratings}


def _prompts(settings: Any, recipe: Recipe) -> tuple[str, ...]:
    notes = (f"judge-{recipe.judge.prompts}-notes",) if recipe.judge else ()
    return (*notes, *rating_prompts(NAME, settings, recipe))


SCORER = Scorer(NAME, CompletenessSettings, score, needs_judge=True, calls=_calls, prompts=_prompts)
