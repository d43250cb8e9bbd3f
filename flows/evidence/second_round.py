"""Row 9: a second round of SeaLong, from the model that the first has trained, as `longmill improve` does it."""

from flows.evidence import SEALONG, EvidenceTableRow, Observation, SeedResult, merge_observations, only_figures
from flows.evidence.experiment import Experiment
from infra.serving.servers import serve_recipe

METRIC = "SubEM gain"


def measure(experiment: Experiment) -> SeedResult:
    """What each held-out question adds to the gain of the first round, of the second, and of both."""
    from flows.improve import next_policy

    recipe = experiment.recipe(SEALONG)
    trained = experiment.train(recipe)
    first = only_figures(experiment.compare(recipe, trained), METRIC, "first round gain")
    if trained is None:
        return SeedResult(first)
    with serve_recipe(next_policy(recipe, dict(trained))) as second_recipe:
        improved = experiment.train(second_recipe)
        second = only_figures(experiment.compare(second_recipe, improved), METRIC, "second round gain")
        second_details = experiment.details(second_recipe, improved)
    both = list(map(_with_sum, merge_observations(first, second)))
    details = {"first round": experiment.details(recipe, trained), "second round": second_details}
    return SeedResult(both, details)


def _with_sum(observation: Observation) -> Observation:
    """The observation with the gain of both rounds, where it has the gain of each."""
    values = dict(observation.values)
    if len(values) == 2:
        values["both rounds gain"] = (sum(gain for gain, _ in observation.values.values()), 1.0)
    return Observation(observation.example_id, observation.kind, observation.length, values)


ROW = EvidenceTableRow(9, "second-round", "a second round", "—", "reported", (SEALONG,), measure)
