"""Row 16: what does training on the pairs of a cheaper judge gain, beside the full judge's?

Pairs of all questions of the training set, of which the half that the cheaper way was made on is a part; gains are on
the held-out questions, on which nothing was made or chosen.
"""

from collections.abc import Sequence

from flows.evidence import (
    LONGREWARD,
    EvidenceTableRow,
    Figures,
    Observation,
    SeedResult,
    figure_value,
    merge_observations,
    only_figures,
)
from flows.evidence.cheaper import FULL
from flows.evidence.cheaper_recipes import CASCADE, DISTILLED, ENTAILMENT, cheaper_recipe
from flows.evidence.experiment import Experiment
from infra.errors import InputError

_WAYS = (ENTAILMENT, DISTILLED, CASCADE)


def measure(experiment: Experiment) -> SeedResult:
    """What each held-out question adds to the gain of each way, and to its difference from the full judge's."""
    recipe = experiment.recipe(LONGREWARD)
    trained = experiment.train(recipe)
    details = {FULL: experiment.details(recipe, trained)}
    full = only_figures(experiment.compare(recipe, trained), "SubEM gain", f"{FULL} SubEM gain")
    observations = [full]
    for way in _WAYS:
        try:
            recipe = cheaper_recipe(experiment, way)
        except InputError as error:  # too few questions to make it from
            details[way] = {"left_out": str(error)}
            continue
        trained = experiment.train(recipe)
        details[way] = experiment.details(recipe, trained)
        if trained is not None:
            gains = only_figures(experiment.compare(recipe, trained), "SubEM gain", f"{way} SubEM gain")
            observations += [gains, _differences(gains, full, way)]
    return SeedResult(merge_observations(*observations), details)


def _differences(gains: Sequence[Observation], full: Sequence[Observation], way: str) -> list[Observation]:
    """Each question's gain less that by the full judge's pairs."""
    by_id = {observation.example_id: observation.values for observation in full}
    differences = []
    for observation in gains:
        values = {}
        of_full = by_id[observation.example_id].get(f"{FULL} SubEM gain")
        own = observation.values.get(f"{way} SubEM gain")
        if own is not None and of_full is not None:
            values[f"{way} − {FULL}"] = (own[0] - of_full[0], 1.0)
        differences.append(Observation(observation.example_id, observation.kind, observation.length, values))
    return differences


def target_met(figures: Figures, groups: Sequence[Figures]) -> bool | None:
    """No way gains less than the full judge beyond its interval; None where none does and a way has no figure."""
    highs = []
    for way in _WAYS:
        high = figure_value(figures, f"{way} − {FULL}", "high")
        if high is not None:
            highs.append(high)
    if highs and min(highs) < 0:
        return False
    return True if len(highs) == len(_WAYS) else None


ROW = EvidenceTableRow(
    16,
    "cheaper-training",
    "training on the pairs of a cheaper judge?",
    "—",
    "not less than the full judge's beyond the interval",
    (LONGREWARD,),
    measure,
    target_met,
)
