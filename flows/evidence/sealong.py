"""Row 2: does SeaLong improve the model? Greedy SubEM before and after ORPO, by kind of question and by length."""

from collections.abc import Sequence

from flows.evidence import SEALONG, EvidenceRow, Figures, Measured, value_of
from flows.evidence.workplace import Workplace

_TARGET = 0.08


def measure(work: Workplace) -> Measured:
    """What each held-out question adds."""
    recipe = work.recipe(SEALONG)
    trained = work.trained(recipe)
    return Measured(work.compared(recipe, trained), work.about(recipe, trained))


def met(figures: Figures, groups: Sequence[Figures]) -> bool | None:
    """8 points are gained, and no group of questions is worse beyond its interval."""
    gain = value_of(figures, "SubEM gain")
    highest = [value_of(each, "SubEM gain", "high") for each in groups]
    return None if gain is None else gain >= _TARGET and all(high is None or high >= 0 for high in highest)


ROW = EvidenceRow(
    2,
    "sealong",
    "does SeaLong (ORPO) improve the model?",
    "50.8 → 55.0",
    "≥ +8, no kind or length worse beyond its interval",
    (SEALONG,),
    measure,
    met,
    grouped=True,
    headline=("SubEM before", "SubEM after", "SubEM gain"),
)
