"""Row 5: does LongReward improve the model? SubEM, recall of items and precision of facts, before and after DPO."""

from collections.abc import Sequence
from typing import Any

from flows.evidence import LONGREWARD, EvidenceRow, Figures, Measured, value_of
from flows.evidence.workplace import Workplace
from infra.recipe import Recipe
from infra.store import open_store

_TARGET = 0.08


def measure(work: Workplace) -> Measured:
    """What each held-out question adds; and the scores of chosen and rejected answers by dimension."""
    recipe = work.recipe(LONGREWARD)
    trained = work.trained(recipe)
    scores = {"scores": score_histograms(work, recipe)}
    return Measured(work.compared(recipe, trained), work.about(recipe, trained) | scores)


def score_histograms(work: Workplace, recipe: Recipe) -> dict[str, Any]:
    """Of each dimension, how often chosen and rejected answers have which score, as the dataset's summary says."""
    from tasks.publishing import read_summary

    return read_summary(open_store(recipe.store), work.built(recipe)["dataset"]["path"]).to_json()["score_histograms"]  # type: ignore[no-any-return]


def met(figures: Figures, groups: Sequence[Figures]) -> bool | None:
    """8 points of SubEM or of recall are gained, and precision is not lower beyond its interval."""
    gains = [value_of(figures, f"{name} gain") for name in ("SubEM", "recall")]
    known = [gain for gain in gains if gain is not None]
    precision = value_of(figures, "precision gain", "high")
    return None if not known else max(known) >= _TARGET and (precision is None or precision >= 0)


ROW = EvidenceRow(
    5,
    "longreward",
    "does LongReward (DPO) improve the model?",
    "55.0 → 59.9",
    "≥ +8 SubEM or recall, precision not lower",
    (LONGREWARD,),
    measure,
    met,
    grouped=True,
    headline=("SubEM before", "SubEM after", "SubEM gain", "recall gain", "precision gain"),
)
