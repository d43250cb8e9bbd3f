"""Faithfulness: is what the answer claims supported by the context?

The judge lists the facts that an answer claims; each fact is checked against the nearest chunks of the context:
fully supported 1, partially 0.5, no support 0. Score = 10 × their mean (LongReward, arXiv 2410.21252). An answer
that claims no fact, such as an honest "the text does not say", claims nothing that is false and gets `no_facts`.
One fact without a verdict makes the score null: a mean over the others would be a guess. Facts are judged one a call,
or `facts_per_call` of them; evidence then gives each fact its number in the reply that it shares with others.

Asked after all other scorers: it takes most of the calls, and answers that can be neither the best nor the worst of
their question any more need no further verdict (`tasks/judging/standing.py`; their score is null, "pruned").
"""

import math
from collections.abc import Sequence
from typing import Any

from infra.canonical import canonical
from infra.recipe import Recipe
from tasks.judging import bundles
from tasks.judging.facts import FactCheck, FactSettings, try_answers
from tasks.judging.rating import unscored
from tasks.judging.savings import PRUNED
from tasks.records.example import Judgement
from tasks.scoring import DIGITS, AnsweredQuestion, Scorer, ScoringContext

NAME = "faithfulness"


def judge(cases: Sequence[AnsweredQuestion], settings: FactSettings, bench: ScoringContext) -> list[Judgement]:
    """One judgement for each answer of each case."""
    judged = {}
    for of_case in try_answers(cases, settings, bench):
        told: set[tuple[int, str]] = set()  # variant and fact of verdicts that an earlier answer of the question has
        for each in of_case:
            judged[each.answer.example_id, each.answer.sample_index] = _judgement(each, settings, told)
    return [
        judged.get((answer.example_id, answer.sample_index)) or unscored(NAME, answer)
        for case in cases
        for answer in case.answers
    ]


def _judgement(trial: FactCheck, settings: FactSettings, told: set[tuple[int, str]]) -> Judgement:
    facts = [_fact(trial, place, told) for place in range(len(trial.facts))]
    told.update((trial.variant, fact) for fact in trial.facts if fact in trial.verdicts)
    evidence = {"reply": trial.listed.reply, "facts": facts, "no_facts": trial.listed.value == ()}
    score, reason = _score(trial, settings)
    keys = tuple(dict.fromkeys((*trial.listed.keys, *(key for word in trial.words for key in word.keys))))
    answer = trial.answer
    return Judgement(answer.example_id, answer.sample_index, NAME, score, reason, canonical(evidence).decode(), keys)


def _fact(trial: FactCheck, place: int, told: set[tuple[int, str]]) -> dict[str, Any]:
    fact = trial.facts[place]
    word, number = trial.verdicts.get(fact), trial.number(fact)
    return {
        "text": fact,
        "support": word.value if word else None,
        "reason": word.reason if word else PRUNED,
        "passages": [list(span) for span in trial.passages[place]],
        "reply": word.reply if word else None,
        "key": word.keys[-1] if word else None,
        "shared": word is not None and (trial.variant, fact) in told,
        **({} if number is None else {"number": number}),
    }


def _score(trial: FactCheck, settings: FactSettings) -> tuple[float | None, str | None]:
    if trial.fault is not None:
        return None, trial.fault
    if trial.missing:
        return None, PRUNED
    if not trial.facts:
        return settings.no_facts, None if settings.no_facts is not None else "no_facts"
    return round(10 * math.fsum(word.value or 0.0 for word in trial.words) / len(trial.facts), DIGITS), None


def _calls(settings: Any, recipe: Recipe, context_tokens: int) -> dict[str, float]:
    samples = recipe.sampling.samples
    verdicts = samples * settings.expected_facts
    if settings.facts_per_call == 1:
        return {"facts": float(samples), "support": float(verdicts)}
    return {"facts": float(samples), bundles.KIND: float(math.ceil(verdicts / settings.facts_per_call))}


def _prompts(settings: Any, recipe: Recipe) -> tuple[str, ...]:
    steps = ("facts", "support", *((bundles.KIND,) if settings.facts_per_call > 1 else ()))
    return tuple(f"judge-{recipe.judge.prompts}-{step}" for step in steps) if recipe.judge else ()


SCORER = Scorer(NAME, FactSettings, judge, needs_judge=True, calls=_calls, prompts=_prompts, asked_last=True)
