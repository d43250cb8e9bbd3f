"""Row 10: which sampling prompt suits the model? Greedy, random, consensus and oracle picks of each strategy.

Measured on the questions for choosing settings, which no other row trains or measures on.
"""

from flows.evidence import FILE, SEALONG, EvidenceTableRow, Observation, SeedResult, merge_observations
from flows.evidence.consensus import MBR, measure_picks
from flows.evidence.experiment import Experiment
from flows.evidence.file_questions import TUNE

_STRATEGIES = ("direct_answer", "plan_and_solve", "step_by_step", "fact_and_reflection")


def measure(experiment: Experiment) -> SeedResult:
    """What each question adds to the figures of each strategy, with the largest N."""
    settings = experiment.settings
    most = settings.sample_counts[-1]
    observations = []
    for strategy in _STRATEGIES:
        recipe = experiment.recipe(
            SEALONG,
            f"sampling.strategy={strategy}",
            f"dataset.name=evidence-{strategy.replace('_', '-')}",
            questions=max(8, settings.questions // 4),
            trained_on=TUNE,
        )
        for observation in measure_picks(experiment, recipe, settings.sample_counts[-1:]):
            values = {}
            for pick in ("greedy", f"random@{most}", f"{MBR}@{most}", f"MBR(final answer)@{most}", f"oracle@{most}"):
                if pick in observation.values:
                    values[f"{strategy}: {pick.partition('@')[0]}"] = observation.values[pick]
            observations.append([Observation(observation.example_id, observation.kind, observation.length, values)])
    return SeedResult(merge_observations(*observations))


ROW = EvidenceTableRow(
    10, "strategies", "which sampling prompt?", "plan and solve", "reported", (SEALONG,), measure, texts=(FILE,)
)
