"""Row 8: how many questions are needed? SeaLong's gain with a quarter of the questions, with all, with four times.

The number of samples is the smallest of those that row 1 compares.
"""

from flows.evidence import SEALONG, EvidenceTableRow, SeedResult, merge_observations, only_figures
from flows.evidence.experiment import Experiment


def measure(experiment: Experiment) -> SeedResult:
    """What each held-out question adds to the gain with each number of questions."""
    observations = []
    details = {}
    samples = experiment.settings.sample_counts[0]
    for amount in experiment.settings.amounts:
        recipe = experiment.recipe(SEALONG, f"sampling.samples={samples}", questions=amount)
        trained = experiment.train(recipe)
        details[str(amount)] = experiment.details(recipe, trained)
        compared = experiment.compare(recipe, trained)
        observations.append(only_figures(compared, "SubEM gain", f"gain at {amount}"))
    return SeedResult(merge_observations(*observations), details)


ROW = EvidenceTableRow(8, "amount", "how many questions are needed?", "1K is enough", "reported", (SEALONG,), measure)
