"""Faithfulness: is what the answer claims supported by the context?

The judge lists the facts that an answer claims; each fact is checked against the nearest chunks of the context:
fully supported 1, partially 0.5, no support 0. Score = 10 × their mean (LongReward, arXiv 2410.21252). An answer
that claims no fact, such as an honest "the text does not say", claims nothing that is false and gets `no_facts`.
One fact without a verdict makes the score null: a mean over the others would be a guess.

Asked after all other scorers: it takes most of the calls, and answers that can be neither the best nor the worst of
their question any more need no further verdict (`tasks/judging/standing.py`; their score is null, "pruned").
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from infra.canonical import canonical
from infra.recipe import Recipe, Settings
from infra.recipe_models import Positive
from tasks.judging.facts import PRUNED, Inquiry, Trial, try_answers
from tasks.judging.rating import unspoken
from tasks.nouns import Judgement
from tasks.scoring import DIGITS, Bench, Case, Scorer

NAME = "faithfulness"


class FaithfulnessSettings(Settings):
    """How facts are listed and checked."""

    facts_tokens: Positive = Field(2048, description="longest list of facts of one answer, in tokens")
    max_tokens: Positive = Field(512, description="longest verdict on one fact, in tokens")
    chunk_tokens: Positive = Field(128, description="tokens per chunk that facts are looked up in")
    nearest: Positive = Field(5, description="chunks that a fact is checked against")
    no_facts: Annotated[float, Field(ge=0, le=10)] | None = Field(
        10.0, description="score of an answer that claims no fact (an honest refusal); null: it has none"
    )
    share_facts: bool = Field(True, description="judge equal facts of the answers to a question once")
    expected_facts: Positive = Field(20, description="facts per answer, for estimates before a run alone")


def judge(cases: Sequence[Case], settings: FaithfulnessSettings, bench: Bench) -> list[Judgement]:
    """One judgement for each answer of each case."""
    inquiry = Inquiry(
        settings.facts_tokens,
        settings.max_tokens,
        settings.chunk_tokens,
        settings.nearest,
        settings.share_facts,
        settings.no_facts,
    )
    trials = try_answers(cases, inquiry, bench.standing, bench)
    judged = {}
    for of_case in trials:
        told: set[str] = set()  # keys of verdicts that another answer of the question has paid for
        for each in of_case:
            judged[each.answer.example_id, each.answer.sample_index] = _judgement(each, settings, told)
    return [
        judged.get((answer.example_id, answer.sample_index)) or unspoken(NAME, answer)
        for case in cases
        for answer in case.answers
    ]


def _judgement(trial: Trial, settings: FaithfulnessSettings, told: set[str]) -> Judgement:
    facts = []
    for place, text in enumerate(trial.facts):
        word = trial.verdicts[place] if place < len(trial.verdicts) else None
        key = word.keys[-1] if word else None
        facts.append(
            {
                "text": text,
                "support": word.value if word else None,
                "reason": word.reason if word else PRUNED,
                "passages": [list(span) for span in trial.passages[place]],
                "reply": word.reply if word else None,
                "key": key,
                "shared": key in told,
            }
        )
        told.update([key] if key else [])
    evidence = {"reply": trial.listed.reply if trial.listed else None, "facts": facts, "no_facts": _claims_none(trial)}
    score, reason = _score(trial, settings)
    keys = (trial.listed.keys if trial.listed else ()) + tuple(key for word in trial.verdicts for key in word.keys)
    answer = trial.answer
    return Judgement(answer.example_id, answer.sample_index, NAME, score, reason, canonical(evidence).decode(), keys)


def _score(trial: Trial, settings: FaithfulnessSettings) -> tuple[float | None, str | None]:
    if trial.fault is not None:
        return None, trial.fault
    if trial.open:
        return None, PRUNED
    if not trial.facts:
        return settings.no_facts, None if settings.no_facts is not None else "no_facts"
    return round(10 * math.fsum(word.value or 0.0 for word in trial.verdicts) / len(trial.facts), DIGITS), None


def _claims_none(trial: Trial) -> bool:
    return trial.listed is not None and trial.listed.value == ()


def _calls(settings: Any, recipe: Recipe, context_tokens: int) -> dict[str, float]:
    samples = recipe.sampling.samples
    return {"facts": float(samples), "support": float(samples * settings.expected_facts)}


def _prompts(settings: Any, recipe: Recipe) -> tuple[str, ...]:
    return tuple(f"judge-{recipe.judge.prompts}-{step}" for step in ("facts", "support")) if recipe.judge else ()


SCORER = Scorer(NAME, FaithfulnessSettings, judge, needs_judge=True, calls=_calls, prompts=_prompts, asked_last=True)
