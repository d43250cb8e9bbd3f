"""Row 9: a second round of SeaLong, from the model that the first has trained, as `longmill improve` does it."""

from flows.evidence import SEALONG, EvidenceRow, Measured, Observation, merged
from flows.evidence.workplace import Workplace
from infra.models.serving import reached

METRIC = "SubEM"


def measure(work: Workplace) -> Measured:
    """What each held-out question adds to the gain of the first round, of the second, and of both."""
    from flows.improve import next_policy

    recipe = work.recipe(SEALONG)
    trained = work.trained(recipe)
    first = [_named(each, "first round") for each in work.compared(recipe, trained)]
    if trained is None:
        return Measured(first)
    with reached(next_policy(recipe, dict(trained))) as again:
        improved = work.trained(again)
        second = [_named(each, "second round") for each in work.compared(again, improved)]
        about = work.about(again, improved)
    both = [_sum(each) for each in merged(first, second)]
    return Measured(both, {"first round": work.about(recipe, trained), "second round": about})


def _named(observation: Observation, name: str) -> Observation:
    wanted = f"{METRIC} gain"
    values = {f"{name} gain": observation.values[wanted]} if wanted in observation.values else {}
    return Observation(observation.example_id, observation.kind, observation.length, values)


def _sum(observation: Observation) -> Observation:
    gains = [value for value, _ in observation.values.values()]
    values = {**observation.values, **({"both rounds gain": (sum(gains), 1.0)} if len(gains) == 2 else {})}
    return Observation(observation.example_id, observation.kind, observation.length, values)


ROW = EvidenceRow(9, "second-round", "a second round", "—", "reported", (SEALONG,), measure)
