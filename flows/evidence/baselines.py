"""Row 6: LongReward against pairs that are made otherwise, from the same answers and with the same training.

contrast       a stronger model's answer over one of the policy's; the stronger model is the policy after SeaLong
context-free   by the judge's overall rating of question and answer, in place of a reward model without context
random pairs   no score at all
oracle pairs   by the references: what the same answers would allow
"""

import json
from collections.abc import Sequence

from flows.evidence import LONGREWARD, SEALONG, EvidenceRow, Figures, Measured, Observation, merged, value_of
from flows.evidence.workplace import Trained, Workplace
from infra.recipe import Recipe

CONTRAST, CONTEXT_FREE, RANDOM, ORACLE = "contrast", "context-free", "random pairs", "oracle pairs"
OURS = "LongReward"
METRIC = "SubEM gain"
_PAIRED_BY = {
    CONTRAST: "contrast",
    CONTEXT_FREE: "best_vs_worst",
    RANDOM: "random_pair",
    ORACLE: "oracle",
}
_ONE_SCORER = 'scoring.scorers=[{"scorer": "quality"}]'  # context-free pairs go by it, the others by no score


def measure(work: Workplace) -> Measured:
    """What each held-out question adds to the gain of each way of pairing."""
    observations: list[Sequence[Observation]] = []
    about = {}
    for name in (OURS, *_PAIRED_BY):
        recipe = _recipe(work, name)
        trained = work.trained(recipe) if recipe is not None else None
        if recipe is not None:
            about[name] = work.about(recipe, trained)
        if recipe is not None and trained is not None:
            observations.append([_gain_alone(each, name) for each in work.compared(recipe, trained, name)])
    return Measured(merged(*observations), about)


def _recipe(work: Workplace, name: str) -> Recipe | None:
    """The recipe of one way of pairing; None for contrast when there is no stronger model."""
    if name == OURS:
        return work.recipe(LONGREWARD)
    rule = _PAIRED_BY[name]
    changes = [f"pairing.rule={rule}", f"dataset.name=evidence-{name.replace(' ', '-')}", _ONE_SCORER]
    if name == CONTRAST:
        strong = work.trained(work.recipe(SEALONG))
        if strong is None:
            return None
        changes.append(f"strong={json.dumps(_stronger(work, strong))}")
    return work.recipe(LONGREWARD, *changes)


def _stronger(work: Workplace, trained: Trained) -> dict[str, object]:
    """The recipe section of the trained adapter, loaded into the server of the policy."""
    from flows.evaluate import on_disk
    from infra.models.serving import load_adapter

    recipe = work.recipe(SEALONG)
    folder = on_disk(recipe, trained["model"])
    for url in recipe.policy.endpoints:
        load_adapter(url, trained["name"], folder)
    return {
        "name": trained["name"],
        "revision": trained["revision"],
        "tokenizer": recipe.policy.tokenizer,
        "context_window": recipe.policy.context_window,
        "endpoints": list(recipe.policy.endpoints),
    }


def _gain_alone(observation: Observation, name: str) -> Observation:
    wanted = f"{name} {METRIC}"
    values = {wanted: observation.values[wanted]} if wanted in observation.values else {}
    return Observation(observation.example_id, observation.kind, observation.length, values)


def met(figures: Figures, groups: Sequence[Figures]) -> bool | None:
    """LongReward gains at least as much as every baseline that knows no reference."""
    ours = value_of(figures, f"{OURS} {METRIC}")
    others = [value_of(figures, f"{name} {METRIC}") for name in (CONTRAST, CONTEXT_FREE, RANDOM)]
    known = [other for other in others if other is not None]
    return None if ours is None or not known else ours >= max(known)


ROW = EvidenceRow(
    6,
    "baselines",
    "against the baselines: contrast, context-free, random pairs, oracle pairs",
    "behind LongReward",
    "same order",
    (SEALONG, LONGREWARD),
    measure,
    met,
)
