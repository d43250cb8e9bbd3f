"""Row 6: LongReward against other ways to make pairs, from the same answers and with the same training.

contrast       a stronger model's answer over one of the policy's; the stronger model is the policy after SeaLong
context-free   by the judge's overall rating of question and answer, in place of a reward model without context
random pairs   no score at all
oracle pairs   by the references: what is possible with the same answers
"""

import json
from collections.abc import Sequence

from flows.evidence import (
    LONGREWARD,
    SEALONG,
    EvidenceTableRow,
    Figures,
    SeedResult,
    figure_value,
    merge_observations,
    only_figures,
)
from flows.evidence.experiment import Experiment, Trained
from infra.recipe import Recipe

CONTRAST, CONTEXT_FREE, RANDOM, ORACLE = "contrast", "context-free", "random pairs", "oracle pairs"
OURS = "LongReward"
METRIC = "SubEM gain"
_PAIRING_RULES = {
    CONTRAST: "contrast",
    CONTEXT_FREE: "best_vs_worst",
    RANDOM: "random_pair",
    ORACLE: "oracle",
}
_ONE_SCORER = 'scoring.scorers=[{"scorer": "quality"}]'  # context-free pairs go by it, the others by no score


def measure(experiment: Experiment) -> SeedResult:
    """What each held-out question adds to the gain of each way of pairing."""
    observations = []
    details = {}
    for name in (OURS, *_PAIRING_RULES):
        recipe = _recipe(experiment, name)
        if recipe is None:
            continue
        trained = experiment.train(recipe)
        details[name] = experiment.details(recipe, trained)
        if trained is not None:
            figure = f"{name} {METRIC}"
            compared = experiment.compare(recipe, trained, name)
            observations.append(only_figures(compared, figure, figure))
    return SeedResult(merge_observations(*observations), details)


def _recipe(experiment: Experiment, name: str) -> Recipe | None:
    """The recipe of one way of pairing; None for contrast when there is no stronger model."""
    if name == OURS:
        return experiment.recipe(LONGREWARD)
    rule = _PAIRING_RULES[name]
    changes = [f"pairing.rule={rule}", f"dataset.name=evidence-{name.replace(' ', '-')}", _ONE_SCORER]
    if name == CONTRAST:
        strong = experiment.train(experiment.recipe(SEALONG))
        if strong is None:
            return None
        changes.append(f"strong={json.dumps(_strong_section(experiment, strong))}")
    return experiment.recipe(LONGREWARD, *changes)


def _strong_section(experiment: Experiment, trained: Trained) -> dict[str, object]:
    """The recipe's section `strong` for the trained adapter, which is loaded into the server of the policy."""
    from flows.evaluate import local_model_folder
    from infra.serving.adapters import load_adapter

    recipe = experiment.recipe(SEALONG)
    folder = local_model_folder(recipe, trained["model"])
    for url in recipe.policy.endpoints:
        load_adapter(url, trained["name"], folder)
    return {
        "name": trained["name"],
        "revision": trained["revision"],
        "tokenizer": recipe.policy.tokenizer,
        "context_window": recipe.policy.context_window,
        "endpoints": list(recipe.policy.endpoints),
    }


def target_met(figures: Figures, groups: Sequence[Figures]) -> bool | None:
    """LongReward gains at least as much as every baseline that uses no reference."""
    ours = figure_value(figures, f"{OURS} {METRIC}")
    gains = []
    for name in (CONTRAST, CONTEXT_FREE, RANDOM):
        gain = figure_value(figures, f"{name} {METRIC}")
        if gain is not None:
            gains.append(gain)
    return None if ours is None or not gains else ours >= max(gains)


ROW = EvidenceTableRow(
    6,
    "baselines",
    "against the baselines: contrast, context-free, random pairs, oracle pairs",
    "behind LongReward",
    "same order",
    (SEALONG, LONGREWARD),
    measure,
    target_met,
)
