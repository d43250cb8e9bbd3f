"""Row 8: how many questions are needed? SeaLong's gain with a quarter of the questions, with all, with four times.

Of the numbers of samples that row 1 compares this takes the smallest, for every number of questions.
"""

from flows.evidence import SAMPLE_COUNTS, SEALONG, EvidenceRow, Measured, Observation, merged
from flows.evidence.workplace import Workplace

METRIC = "SubEM gain"


def measure(work: Workplace) -> Measured:
    """What each held-out question adds to the gain with each number of questions."""
    observations = []
    about = {}
    for amount in work.settings.amounts:
        recipe = work.recipe(SEALONG, f"sampling.samples={SAMPLE_COUNTS[0]}", questions=amount)
        trained = work.trained(recipe)
        about[str(amount)] = work.about(recipe, trained)
        observations.append([_named(each, amount) for each in work.compared(recipe, trained)])
    return Measured(merged(*observations), about)


def _named(observation: Observation, amount: int) -> Observation:
    values = {f"gain at {amount}": pair for name, pair in observation.values.items() if name == METRIC}
    return Observation(observation.example_id, observation.kind, observation.length, values)


ROW = EvidenceRow(8, "amount", "how many questions are needed?", "1K is enough", "reported", (SEALONG,), measure)
