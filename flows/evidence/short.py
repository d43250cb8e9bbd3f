"""Row 7: are short contexts kept? SubEM on contexts of one passage, before and after each method's training."""

from collections.abc import Sequence

from flows.evidence import LONGREWARD, SEALONG, EvidenceRow, Figures, Measured, merged, value_of
from flows.evidence.questions import SHORT
from flows.evidence.workplace import Workplace

_LABELS = {SEALONG: "SeaLong", LONGREWARD: "LongReward"}


def measure(work: Workplace) -> Measured:
    """What each short question adds."""
    observations = []
    for method, label in _LABELS.items():
        trained = work.trained(work.recipe(method))
        observations.append(work.compared(work.recipe(method, measured_on=SHORT), trained, label))
    return Measured(merged(*observations))


def met(figures: Figures, groups: Sequence[Figures]) -> bool | None:
    """Neither method is worse beyond its interval."""
    highest = [value_of(figures, f"{label} SubEM gain", "high") for label in _LABELS.values()]
    known = [high for high in highest if high is not None]
    return min(known) >= 0 if known else None


ROW = EvidenceRow(
    7,
    "short",
    "are short contexts kept?",
    "kept",
    "within the interval",
    (SEALONG, LONGREWARD),
    measure,
    met,
    headline=tuple(f"{label} SubEM {what}" for label in _LABELS.values() for what in ("before", "gain")),
)
