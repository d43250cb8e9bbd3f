"""Rules of scoring that a plan was made with: when it is resumed, all its shards are scored by the same rules.

There is one rule: "refusals", with the value "by_notes", says that an answer without a fact is scored by completeness'
notes (`tasks/judging/refusals.py`). Plans from before it do not have it, nor do plans whose recipe ignores the notes.
"""

from collections.abc import Mapping

from infra.recipe import Recipe
from tasks.judging.refusals import DESPITE_NOTES, FACTS_SCORER, IGNORED, NOTES_SCORER
from tasks.records.plan import Plan

_BY_NOTES = {"refusals": "by_notes"}


def rules_of(recipe: Recipe) -> Mapping[str, str]:
    """The rules of a plan that is made with this recipe."""
    scorers = {entry.get("scorer"): entry for entry in recipe.scoring.scorers}
    if not {FACTS_SCORER, NOTES_SCORER} <= scorers.keys() or scorers[FACTS_SCORER].get(DESPITE_NOTES) == IGNORED:
        return {}
    return _BY_NOTES


def as_planned(recipe: Recipe, plan: Plan) -> Recipe:
    """The recipe with the rules of a plan: of one from before a rule, with the way of that time."""
    if rules_of(recipe) == dict(plan.rules):
        return recipe
    scorers = []
    for entry in recipe.scoring.scorers:
        scorer = {key: value for key, value in entry.items() if key != DESPITE_NOTES or not plan.rules}
        if entry.get("scorer") == FACTS_SCORER and not plan.rules:
            scorer[DESPITE_NOTES] = IGNORED
        scorers.append(scorer)
    return recipe.model_copy(update={"scoring": recipe.scoring.model_copy(update={"scorers": tuple(scorers)})})
