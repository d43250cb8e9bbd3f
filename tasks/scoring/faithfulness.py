"""Faithfulness: is what the answer claims supported by the context?

The judge lists the facts that an answer claims, by sentence or atomically (`granularity`); each fact is checked
against the nearest chunks of the context: fully supported 1, partially 0.5, no support 0. Score = 10 × their mean
(LongReward, arXiv 2410.21252). An answer that claims no fact, such as "the text does not say", is scored by
completeness' notes (`tasks/judging/refusals.py`). One fact without a verdict makes the score null: a mean over the
others would be a guess. Facts are judged one a call, or `facts_per_call` of them; evidence then gives each fact its
number in the reply that it shares with others.

It takes most of the calls, so it waits for the other scorers: answers that can be neither the best nor the worst of
their question any more need no further verdict (`tasks/judging/pruning.py`; their score is null, "pruned").
"""

import math
from collections.abc import Sequence
from typing import Any

from infra.recipe import Recipe
from tasks.judging.bundles import BUNDLE_KIND
from tasks.judging.context import AnsweredQuestion, ScoringContext
from tasks.judging.fact_evidence import checked_judgement
from tasks.judging.fact_settings import FactSettings
from tasks.judging.facts import check_facts
from tasks.judging.steps import Steps
from tasks.scoring import Scorer

NAME = "faithfulness"


def score(questions: Sequence[AnsweredQuestion], settings: FactSettings, scoring: ScoringContext) -> Steps:
    """One judgement for each answer of each question."""
    checks = yield from check_facts(questions, settings, scoring)
    judgements = []
    for of_question in checks:
        judged: set[tuple[int, str]] = set()
        for check in of_question:
            judgements.append(checked_judgement(NAME, check, settings, judged))
    return judgements


def _calls(settings: Any, recipe: Recipe, context_tokens: int) -> dict[str, float]:
    samples = recipe.sampling.samples
    verdicts = samples * settings.facts_per_answer
    if settings.facts_per_call == 1:
        return {"facts": float(samples), "support": float(verdicts)}
    return {"facts": float(samples), BUNDLE_KIND: float(math.ceil(verdicts / settings.facts_per_call))}


def _prompts(settings: Any, recipe: Recipe) -> tuple[str, ...]:
    steps = (settings.list_step, "support", *((BUNDLE_KIND,) if settings.facts_per_call > 1 else ()))
    return tuple(f"judge-{recipe.judge.prompts}-{step}" for step in steps) if recipe.judge else ()


SCORER = Scorer(
    NAME,
    FactSettings,
    score,
    needs_judge=True,
    calls=_calls,
    prompts=_prompts,
    waits_for_others=True,
    embeds=lambda settings: True,
)
