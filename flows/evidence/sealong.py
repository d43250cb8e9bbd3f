"""Row 2: does SeaLong improve the model? Greedy SubEM before and after ORPO, by kind of question and by length."""

from collections.abc import Sequence

from flows.evidence import FILE, SEALONG, WORLDS, EvidenceTableRow, Figures, SeedResult, figure_value
from flows.evidence.experiment import Experiment

_TARGET = 0.08


def measure(experiment: Experiment) -> SeedResult:
    """What each held-out question adds."""
    recipe = experiment.recipe(SEALONG)
    trained = experiment.train(recipe)
    return SeedResult(experiment.compare(recipe, trained), experiment.details(recipe, trained))


def target_met(figures: Figures, groups: Sequence[Figures]) -> bool | None:
    """The gain is 8 points, and no group of questions is worse beyond its interval."""
    gain = figure_value(figures, "SubEM gain")
    if gain is None:
        return None
    for group in groups:
        bound = figure_value(group, "SubEM gain", "high")
        if bound is not None and bound < 0:
            return False
    return gain >= _TARGET


ROW = EvidenceTableRow(
    2,
    "sealong",
    "does SeaLong (ORPO) improve the model?",
    "50.8 → 55.0",
    "≥ +8, no kind or length worse beyond its interval",
    (SEALONG,),
    measure,
    target_met,
    grouped=True,
    headline=("SubEM before", "SubEM after", "SubEM gain"),
    texts=(WORLDS, FILE),
)
