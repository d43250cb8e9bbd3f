"""Rules of scoring that a plan was made with: when it is resumed, all its shards are scored by the same rules.

- "refusals": "by_notes": an answer without a fact is scored by completeness' notes (`tasks/judging/refusals.py`).
- "long_texts": "windows": a text that is longer than the embedding model's window is embedded in windows. Without it
  the end of such a text is cut off, as it was for every plan before `embedding.long_texts`.

Plans from before a rule do not have it, nor do plans whose recipe chooses the earlier way.
"""

from collections.abc import Mapping
from typing import Any

from infra.recipe import Recipe
from tasks.judging.refusals import DESPITE_NOTES, FACTS_SCORER, IGNORED, NOTES_SCORER
from tasks.records.plan import Plan
from tasks.scoring import embeds_texts

_REFUSALS = {"refusals": "by_notes"}
_WINDOWS = {"long_texts": "windows"}


def rules_of(recipe: Recipe) -> Mapping[str, str]:
    """The rules of a plan that is made with this recipe."""
    rules: dict[str, str] = {}
    scorers = {entry.get("scorer"): entry for entry in recipe.scoring.scorers}
    if {FACTS_SCORER, NOTES_SCORER} <= scorers.keys() and scorers[FACTS_SCORER].get(DESPITE_NOTES) != IGNORED:
        rules |= _REFUSALS
    if recipe.embedding.makes_windows and embeds_texts(recipe):
        rules |= _WINDOWS
    return rules


def as_planned(recipe: Recipe, plan: Plan) -> Recipe:
    """The recipe with the rules of a plan: of one from before a rule, with the way of that time."""
    rules = rules_of(recipe)
    changes: dict[str, Any] = {}
    if _has(rules, _REFUSALS) != _has(plan.rules, _REFUSALS):
        scorers = _scorers(recipe, by_notes=_has(plan.rules, _REFUSALS))
        changes["scoring"] = recipe.scoring.model_copy(update={"scorers": scorers})
    if _has(rules, _WINDOWS) != _has(plan.rules, _WINDOWS):
        long_texts = "windows" if _has(plan.rules, _WINDOWS) else "cut"
        changes["embedding"] = recipe.embedding.model_copy(update={"long_texts": long_texts})
    return recipe.model_copy(update=changes) if changes else recipe


def _has(rules: Mapping[str, str], rule: Mapping[str, str]) -> bool:
    return rule.items() <= dict(rules).items()


def _scorers(recipe: Recipe, by_notes: bool) -> tuple[dict[str, Any], ...]:
    """The scorers' settings, with the answers without a fact scored by the notes or not."""
    scorers = []
    for entry in recipe.scoring.scorers:
        scorer = {key: value for key, value in entry.items() if key != DESPITE_NOTES or not by_notes}
        if entry.get("scorer") == FACTS_SCORER and not by_notes:
            scorer[DESPITE_NOTES] = IGNORED
        scorers.append(scorer)
    return tuple(scorers)
