"""Row 5: does LongReward improve the model? SubEM, recall of items and precision of facts, before and after DPO."""

from collections.abc import Sequence
from typing import Any

from flows.evidence import LONGREWARD, EvidenceTableRow, Figures, SeedResult, figure_value
from flows.evidence.experiment import Experiment
from infra.recipe import Recipe
from infra.store import open_store

_TARGET = 0.08


def measure(experiment: Experiment) -> SeedResult:
    """What each held-out question adds; and the scores of chosen and rejected answers by dimension."""
    recipe = experiment.recipe(LONGREWARD)
    trained = experiment.train(recipe)
    details = {**experiment.details(recipe, trained), "scores": score_histograms(experiment, recipe)}
    return SeedResult(experiment.compare(recipe, trained), details)


def score_histograms(experiment: Experiment, recipe: Recipe) -> dict[str, Any]:
    """For each dimension, how often chosen and rejected answers have which score, from the dataset's summary."""
    from tasks.publishing import read_summary

    summary = read_summary(open_store(recipe.store), experiment.build(recipe)["dataset"]["path"])
    histograms: dict[str, Any] = summary.to_json()["score_histograms"]
    return histograms


def target_met(figures: Figures, groups: Sequence[Figures]) -> bool | None:
    """The gain in SubEM or in recall is 8 points, and precision is not lower beyond its interval."""
    gains = []
    for metric in ("SubEM", "recall"):
        gain = figure_value(figures, f"{metric} gain")
        if gain is not None:
            gains.append(gain)
    precision = figure_value(figures, "precision gain", "high")
    return None if not gains else max(gains) >= _TARGET and (precision is None or precision >= 0)


ROW = EvidenceTableRow(
    5,
    "longreward",
    "does LongReward (DPO) improve the model?",
    "55.0 → 59.9",
    "≥ +8 SubEM or recall, precision not lower",
    (LONGREWARD,),
    measure,
    target_met,
    grouped=True,
    headline=("SubEM before", "SubEM after", "SubEM gain", "recall gain", "precision gain"),
)
