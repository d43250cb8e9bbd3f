"""Rules of scoring that a plan was made with: when it is resumed, all its shards are scored by the same rules.

A rule is younger than the first plans, and a plan that was made by it says so. "refusals": "by_notes" says that an
answer without a fact is scored by completeness' notes (`tasks/judging/refusals.py`). "facts": "by_sentence" says that
facts are listed by sentence (`granularity`, `tasks/judging/fact_settings.py`). "long_texts": "windows" says that a text
which is longer than the embedding model's window is embedded in windows; before, its end was cut off. Plans from before
a rule do not have it, nor do plans whose recipe wants the way of that time.
"""

from collections.abc import Mapping
from typing import Any

from infra.recipe import Recipe
from tasks.judging.fact_settings import ATOMIC, GRANULARITY
from tasks.judging.refusals import DESPITE_NOTES, FACTS_SCORER, IGNORED, NOTES_SCORER
from tasks.records.plan import Plan
from tasks.scoring import embeds_texts

_REFUSALS, _BY_NOTES = "refusals", "by_notes"
_FACTS, _BY_SENTENCE = "facts", "by_sentence"
_LONG_TEXTS, _WINDOWS = "long_texts", "windows"
# By rule: the key of faithfulness that decides on it, and the value that means the way before the rule.
_EARLIER_WAYS = {_REFUSALS: (DESPITE_NOTES, IGNORED), _FACTS: (GRANULARITY, ATOMIC)}


def rules_of(recipe: Recipe) -> dict[str, str]:
    """The rules of a plan that is made with this recipe."""
    rules: dict[str, str] = {}
    if recipe.embedding.makes_windows and embeds_texts(recipe):
        rules[_LONG_TEXTS] = _WINDOWS
    scorers = {entry.get("scorer"): entry for entry in recipe.scoring.scorers}
    if FACTS_SCORER not in scorers:
        return rules
    if NOTES_SCORER in scorers and scorers[FACTS_SCORER].get(DESPITE_NOTES) != IGNORED:
        rules[_REFUSALS] = _BY_NOTES
    if scorers[FACTS_SCORER].get(GRANULARITY) != ATOMIC:
        rules[_FACTS] = _BY_SENTENCE
    return rules


def as_planned(recipe: Recipe, plan: Plan) -> Recipe:
    """The recipe with the rules of a plan: of one from before a rule, with the way of that time."""
    rules = rules_of(recipe)
    if rules == plan.rules:
        return recipe
    changes: dict[str, Any] = {}
    if rules.get(_LONG_TEXTS) != plan.rules.get(_LONG_TEXTS):
        long_texts = "cut" if _LONG_TEXTS not in plan.rules else _WINDOWS
        changes["embedding"] = recipe.embedding.model_copy(update={"long_texts": long_texts})
    scorers = []
    for entry in recipe.scoring.scorers:
        is_of_facts = entry.get("scorer") == FACTS_SCORER
        scorers.append(_with_rules_of_plan(entry, rules, plan.rules) if is_of_facts else entry)
    changes["scoring"] = recipe.scoring.model_copy(update={"scorers": tuple(scorers)})
    return recipe.model_copy(update=changes)


def _with_rules_of_plan(
    faithfulness: Mapping[str, Any], rules: Mapping[str, str], rules_of_plan: Mapping[str, str]
) -> dict[str, Any]:
    """The settings of the scorer, with each key changed whose rule is not that of the plan."""
    settings = dict(faithfulness)
    for rule, (key, earlier) in _EARLIER_WAYS.items():
        if rules.get(rule) == rules_of_plan.get(rule):
            continue
        settings.pop(key, None)
        if rule not in rules_of_plan:
            settings[key] = earlier
    return settings
