"""Row 12: a reward model that learns from the judge and takes its place: cost and agreement beside the full judge's."""

from flows.evidence import LONGREWARD, EvidenceTableRow, SeedResult
from flows.evidence.cheaper import TARGET, measured_on, target_met
from flows.evidence.cheaper_recipes import distilled_recipe
from flows.evidence.experiment import Experiment


def measure(experiment: Experiment) -> SeedResult:
    """What each question of the last quarter adds."""
    recipe = distilled_recipe(experiment)
    return SeedResult(measured_on(experiment, recipe), experiment.details(recipe, None))


ROW = EvidenceTableRow(12, "distilled", "a distilled reward model?", "—", TARGET, (LONGREWARD,), measure, target_met)
