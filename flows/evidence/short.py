"""Row 7: are short contexts kept? SubEM on contexts of one passage, before and after each method's training."""

from collections.abc import Sequence

from flows.evidence import (
    FILE,
    LONGREWARD,
    SEALONG,
    WORLDS,
    EvidenceTableRow,
    Figures,
    SeedResult,
    figure_value,
    merge_observations,
)
from flows.evidence.experiment import Experiment
from flows.evidence.questions import SHORT

_LABELS = {SEALONG: "SeaLong", LONGREWARD: "LongReward"}


def measure(experiment: Experiment) -> SeedResult:
    """What each short question adds."""
    observations = []
    for method in experiment.settings.methods:
        label = _LABELS[method]
        trained = experiment.train(experiment.recipe(method))
        short_recipe = experiment.recipe(method, measured_on=SHORT)
        observations.append(experiment.compare(short_recipe, trained, label))
    return SeedResult(merge_observations(*observations))


def target_met(figures: Figures, groups: Sequence[Figures]) -> bool | None:
    """Neither method is worse beyond its interval."""
    bounds = []
    for label in _LABELS.values():
        bound = figure_value(figures, f"{label} SubEM gain", "high")
        if bound is not None:
            bounds.append(bound)
    return min(bounds) >= 0 if bounds else None


ROW = EvidenceTableRow(
    7,
    "short",
    "are short contexts kept?",
    "kept",
    "within the interval",
    (SEALONG, LONGREWARD),
    measure,
    target_met,
    headline=("SeaLong SubEM before", "SeaLong SubEM gain", "LongReward SubEM before", "LongReward SubEM gain"),
    texts=(WORLDS, FILE),
)
