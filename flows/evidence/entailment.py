"""Row 11: verdicts by entailment: calls, tokens, money and agreement beside the full judge's."""

from flows.evidence import LONGREWARD, EvidenceTableRow, SeedResult
from flows.evidence.cheaper import TARGET, measured_on, target_met
from flows.evidence.cheaper_recipes import entailment_recipe
from flows.evidence.experiment import Experiment


def measure(experiment: Experiment) -> SeedResult:
    """What each question of the last quarter adds."""
    recipe = entailment_recipe(experiment)
    return SeedResult(measured_on(experiment, recipe), experiment.details(recipe, None))


ROW = EvidenceTableRow(11, "entailment", "verdicts by entailment?", "—", TARGET, (LONGREWARD,), measure, target_met)
