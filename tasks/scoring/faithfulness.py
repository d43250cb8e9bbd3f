"""Faithfulness: is what the answer claims supported by the context?

The judge lists the facts that an answer claims; each fact is checked against the nearest chunks of the context:
fully supported 1, partially 0.5, no support 0. Score = 10 × their mean (LongReward, arXiv 2410.21252). An answer
that claims no fact, such as an honest "the text does not say", claims nothing that is false and gets `no_facts`.
One fact without a verdict makes the score null: a mean over the others would be a guess. Facts are judged one a call,
or `facts_per_call` of them; evidence then gives each fact its number in the reply that it shares with others.

It takes most of the calls, so it waits for the other scorers: answers that can be neither the best nor the worst of
their question any more need no further verdict (`tasks/judging/pruning.py`; their score is null, "pruned").
"""

import math
from collections.abc import Sequence
from typing import Any

from infra.recipe import Recipe
from tasks.judging.context import AnsweredQuestion, ScoringContext
from tasks.judging.facts import BUNDLE_KIND, FactCheck, FactSettings, check_facts
from tasks.judging.pruning import PRUNED
from tasks.judging.steps import Steps
from tasks.records.example import Judgement
from tasks.scoring import DIGITS, Scorer

NAME = "faithfulness"


def score(questions: Sequence[AnsweredQuestion], settings: FactSettings, scoring: ScoringContext) -> Steps:
    """One judgement for each answer of each question."""
    checks = yield from check_facts(questions, settings, scoring)
    judgements = []
    for of_question in checks:
        judged: set[tuple[int, str]] = set()  # (variant, fact) of verdicts that an earlier answer has
        for check in of_question:
            judgements.append(_judgement(check, settings, judged))
    return judgements


def _judgement(check: FactCheck, settings: FactSettings, judged: set[tuple[int, str]]) -> Judgement:
    facts = [_fact_evidence(check, place, judged) for place in range(len(check.facts))]
    judged.update((check.variant, fact) for fact in check.facts if fact in check.verdicts)
    evidence = {"reply": check.listed.reply, "facts": facts, "no_facts": check.listed.value == ()}
    value, reason = _score(check, settings)
    keys = dict.fromkeys(check.listed.keys)
    for verdict in check.own_verdicts:
        keys.update(dict.fromkeys(verdict.keys))
    return check.answer.judged(NAME, value, reason, evidence, keys)


def _fact_evidence(check: FactCheck, place: int, judged: set[tuple[int, str]]) -> dict[str, Any]:
    fact = check.facts[place]
    verdict = check.verdicts.get(fact)
    number = check.number(fact)
    evidence = {
        "text": fact,
        "support": verdict.value if verdict else None,
        "reason": verdict.reason if verdict else PRUNED,
        "passages": [list(span) for span in check.passages[place]],
        "reply": verdict.reply if verdict else None,
        "key": verdict.keys[-1] if verdict else None,
        "shared": verdict is not None and (check.variant, fact) in judged,
    }
    return evidence if number is None else {**evidence, "number": number}


def _score(check: FactCheck, settings: FactSettings) -> tuple[float | None, str | None]:
    """The score and, where it is None, the reason."""
    if check.fault is not None:
        return None, check.fault
    if check.missing:
        return None, PRUNED
    if not check.facts:
        return settings.no_facts, None if settings.no_facts is not None else "no_facts"
    supported = math.fsum(verdict.value or 0.0 for verdict in check.own_verdicts)
    return round(10 * supported / len(check.facts), DIGITS), None


def _calls(settings: Any, recipe: Recipe, context_tokens: int) -> dict[str, float]:
    samples = recipe.sampling.samples
    verdicts = samples * settings.expected_facts
    if settings.facts_per_call == 1:
        return {"facts": float(samples), "support": float(verdicts)}
    return {"facts": float(samples), BUNDLE_KIND: float(math.ceil(verdicts / settings.facts_per_call))}


def _prompts(settings: Any, recipe: Recipe) -> tuple[str, ...]:
    steps = ("facts", "support", *((BUNDLE_KIND,) if settings.facts_per_call > 1 else ()))
    return tuple(f"judge-{recipe.judge.prompts}-{step}" for step in steps) if recipe.judge else ()


SCORER = Scorer(NAME, FactSettings, score, needs_judge=True, calls=_calls, prompts=_prompts, waits_for_others=True)
