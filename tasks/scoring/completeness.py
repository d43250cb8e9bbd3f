"""Completeness: does the answer give all that the context holds on the question?

The judge takes notes from each chunk of the context (or says that it holds nothing relevant), once per context
and question; then it rates each answer beside all notes, which say what part of the document they came from
(LongReward, arXiv 2410.21252). A context without anything relevant is a defined case: the notes say so, and the
judge rates the answer beside that. Where the notes of one part are missing the score is null, not a guess.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field

from infra.canonical import canonical
from infra.recipe import Positive, Recipe
from tasks.judging.asking import JudgeQuery, Verdict, ask_all, judge_of, judge_prompt
from tasks.judging.chunks import Span, chunk_spans
from tasks.judging.rating import RatingSettings, no_text_reason, rate, rating_calls, rating_prompts, unscored
from tasks.judging.replies import NO_NOTES, read_notes
from tasks.records.example import Answer, Judgement
from tasks.scoring import AnsweredQuestion, Scorer, ScoringContext

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
    """One chunk of the context, and the judge's notes on it: a null value in a word without reason is "nothing"."""

    number: int
    span: Span
    word: Verdict[str | None]


def judge(cases: Sequence[AnsweredQuestion], settings: CompletenessSettings, bench: ScoringContext) -> list[Judgement]:
    """One judgement for each answer of each case."""
    notes = dict(zip([case.example.example_id for case in cases], _take_notes(cases, settings, bench), strict=True))
    subjects = []
    lost: dict[tuple[str, int], Judgement] = {}
    for case in cases:
        parts = notes[case.example.example_id]
        missing = next((part.word.reason for part in parts if part.word.reason is not None), None)
        for answer in case.answers:
            if no_text_reason(answer) is not None:
                lost[case.example.example_id, answer.sample_index] = unscored(NAME, answer)
            elif missing is not None:
                lost[case.example.example_id, answer.sample_index] = _without_notes(answer, missing, parts)
            else:
                values = {"notes": _told(parts, case.example.language), "question": case.example.question}
                subjects.append((case, answer, {**values, "answer": answer.text}))
    rated = {(each.example_id, each.sample_index): each for each in rate(NAME, subjects, settings, bench)}
    return [
        lost.get(key) or _with_notes(rated[key], notes[case.example.example_id])
        for case in cases
        for answer in case.answers
        for key in [(answer.example_id, answer.sample_index)]
    ]


def _take_notes(
    cases: Sequence[AnsweredQuestion], settings: CompletenessSettings, bench: ScoringContext
) -> list[list[Part]]:
    """The notes on every part of each case's context. A case without an answer to rate needs none."""
    judge, _ = judge_of(bench)
    spans = [
        chunk_spans(case.context, settings.chunk_tokens, judge, bench.memo)
        if any(no_text_reason(answer) is None for answer in case.answers)
        else ()
        for case in cases
    ]
    asks = [
        _ask_for_notes(case, case.context.text[start:end], settings, bench)
        for case, own in zip(cases, spans, strict=True)
        for start, end in own
    ]
    words = iter(ask_all(asks, bench))
    return [[Part(number, span, next(words)) for number, span in enumerate(own, 1)] for own in spans]


def _ask_for_notes(
    case: AnsweredQuestion, chunk: str, settings: CompletenessSettings, bench: ScoringContext
) -> JudgeQuery[str | None]:
    judge, _ = judge_of(bench)
    prompt = judge_prompt("notes", _language(chunk), judge.prompts, chunk=chunk, question=case.example.question)
    # Notes that fill their limit are notes all the same; asked again they would be as long.
    return JudgeQuery("notes", prompt, case.context.context_id, read_notes, settings.notes_tokens)


def _language(chunk: str) -> str:
    """The language of a chunk, in which notes on it are asked for."""
    return "zh" if sum(_CJK[0] <= letter <= _CJK[1] for letter in chunk) > _MOSTLY * len(chunk) else "en"


def _told(parts: Sequence[Part], language: str) -> str:
    """All notes, each under the part of the document that it came from; or the sentence that there are none."""
    held = [part for part in parts if part.word.value is not None]
    if not held:
        return NO_NOTES[language]
    label = _PART[language]
    return "\n\n".join(f"{label.format(part=each.number, of=len(parts))}\n{each.word.value}" for each in held)


def _without_notes(answer: Answer, reason: str, parts: Sequence[Part]) -> Judgement:
    empty = Judgement(answer.example_id, answer.sample_index, NAME, None, f"notes: {reason}", '{"rating":null}', ())
    return _with_notes(empty, parts)


def _with_notes(judgement: Judgement, parts: Sequence[Part]) -> Judgement:
    notes = [
        {
            "part": part.number,
            "of": len(parts),
            "start": part.span[0],
            "end": part.span[1],
            "text": part.word.value,
            "reason": part.word.reason,
        }
        for part in parts
    ]
    evidence = canonical({**json.loads(judgement.evidence), "notes": notes}).decode()
    keys = tuple(key for part in parts for key in part.word.keys)
    return replace(judgement, evidence=evidence, keys=(*keys, *judgement.keys))


def _calls(settings: Any, recipe: Recipe, context_tokens: int) -> dict[str, float]:
    ratings = rating_calls(NAME, settings, recipe, context_tokens)
    return {"notes": float(-(-context_tokens // settings.chunk_tokens)), **ratings}


def _prompts(settings: Any, recipe: Recipe) -> tuple[str, ...]:
    notes = (f"judge-{recipe.judge.prompts}-notes",) if recipe.judge else ()
    return (*notes, *rating_prompts(NAME, settings, recipe))


SCORER = Scorer(NAME, CompletenessSettings, judge, needs_judge=True, calls=_calls, prompts=_prompts)
