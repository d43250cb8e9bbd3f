"""Faithfulness: is what the answer claims supported by the context?

The judge lists the facts that an answer claims, by sentence or atomically (`granularity`); each fact is checked
against the nearest chunks of the context: fully supported 1, partially 0.5, no support 0. Score = 10 × their mean
(LongReward, arXiv 2410.21252). An answer that claims no fact, such as "the text does not say", is scored by
completeness' notes (`tasks/judging/refusals.py`). One fact without a verdict makes the score null: a mean over the
others would be a guess. Facts are judged one a call, or `facts_per_call` of them; evidence then gives each fact its
number in the reply that it shares with others. A `verifier` takes those of which it is sure.

It takes most of the calls, so it waits for the other scorers: answers that can be neither the best nor the worst of
their question any more need no further verdict (`tasks/judging/pruning.py`; their score is null, "pruned").
"""

import math
from collections.abc import Sequence
from typing import Any

from infra.recipe import Recipe
from tasks.judging.bundles import BUNDLE_KIND
from tasks.judging.calibration import expected_judge_share
from tasks.judging.context import AnsweredQuestion, ScoringContext
from tasks.judging.fact_evidence import checked_judgement
from tasks.judging.fact_settings import FactSettings
from tasks.judging.facts import check_facts
from tasks.judging.steps import Steps
from tasks.judging.verifier import check_verifier
from tasks.judging.verifier_settings import VERIFY
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
    verdicts = for_judge = float(samples * settings.facts_per_answer)
    calls = {"facts": float(samples)}
    verifier = settings.verifier
    if verifier is not None:
        for_judge *= expected_judge_share(recipe, verifier)
        if verifier.endpoint is not None:
            calls[VERIFY] = verdicts
    if settings.facts_per_call > 1:
        calls[BUNDLE_KIND] = float(math.ceil(for_judge / settings.facts_per_call))
    alone = for_judge if settings.facts_per_call == 1 else 0.0
    alone += settings.control_share * (verdicts - alone)
    return {**calls, "support": alone} if alone else calls


def _prompts(settings: Any, recipe: Recipe) -> tuple[str, ...]:
    steps = (settings.list_step, "support", *((BUNDLE_KIND,) if settings.facts_per_call > 1 else ()))
    return tuple(f"judge-{recipe.judge.prompts}-{step}" for step in steps) if recipe.judge else ()


def _check(settings: Any) -> None:
    if settings.verifier is not None:
        check_verifier(settings.verifier)


SCORER = Scorer(
    NAME,
    FactSettings,
    score,
    needs_judge=True,
    calls=_calls,
    prompts=_prompts,
    check=_check,
    waits_for_others=True,
    embeds=lambda settings: True,
)
