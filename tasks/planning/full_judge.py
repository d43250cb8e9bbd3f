"""The full judge: a recipe whose judge is asked about every answer, and gives every verdict on a fact itself, in a call
of its own; without the stages of a cascade."""

from infra.recipe import Recipe
from tasks.judging.refusals import FACTS_SCORER
from tasks.judging.verifier_settings import VERIFIER

_CHEAPER_KEYS = (VERIFIER, "facts_per_call", "control_share")  # of faithfulness


def judged_in_full(recipe: Recipe) -> Recipe | None:
    """The recipe with the full judge; None where it has it already."""
    scorers = []
    stages = recipe.scoring.cascade.stages if recipe.scoring.cascade else ()
    for entry in recipe.scoring.scorers:
        if entry.get("scorer") in stages:
            continue
        if entry.get("scorer") == FACTS_SCORER:
            entry = {key: value for key, value in entry.items() if key not in _CHEAPER_KEYS}
        scorers.append(entry)
    if tuple(scorers) == recipe.scoring.scorers:
        return None
    changes = {"scorers": tuple(scorers), "cascade": None}
    return recipe.model_copy(update={"scoring": recipe.scoring.model_copy(update=changes)})
