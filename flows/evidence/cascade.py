"""Row 13: a cascade of claims, the distilled reward model and the judge: cost and agreement beside the full judge's."""

from flows.evidence import LONGREWARD, EvidenceTableRow, SeedResult
from flows.evidence.cheaper import TARGET, measured_on, target_met
from flows.evidence.cheaper_recipes import cascade_recipe
from flows.evidence.experiment import Experiment


def measure(experiment: Experiment) -> SeedResult:
    """What each question of the last quarter adds."""
    recipe = cascade_recipe(experiment)
    return SeedResult(measured_on(experiment, recipe), experiment.details(recipe, None))


ROW = EvidenceTableRow(13, "cascade", "a cascade before the judge?", "—", TARGET, (LONGREWARD,), measure, target_met)
