"""Recipes that judge LongReward's answers for less: a verifier, a reward model, a cascade of it and the judge.

What a recipe needs is made from the full judge's replies to the first half of the questions
(flows/evidence/cheaper.py), once for a seed: later rows find it in the store.
"""

import json
from pathlib import Path
from typing import Any

from flows.evidence import LONGREWARD
from flows.evidence.experiment import Experiment
from infra.models.tokens import resolve_model
from infra.recipe import Recipe
from infra.serving.servers import local_folder

ENTAILMENT, DISTILLED, CASCADE = "entailment verdicts", "distilled reward", "cascade"
WITHIN = 0.2  # of the verifier's threshold: there the judge is asked
AGREEMENT = 0.9  # that the cascade promises: the least that a quarter of some hundred questions can show
_REWARD_TRAINING = (
    "reward_training.method=full",
    "reward_training.learning_rate=1e-3",
    "reward_training.epochs=4",
    "reward_training.dtype=float32",
    "reward_training.device_batch_size=4",
)


def cheaper_recipe(experiment: Experiment, way: str) -> Recipe:
    """The recipe of one of the three ways."""
    makers = {ENTAILMENT: entailment_recipe, DISTILLED: distilled_recipe, CASCADE: cascade_recipe}
    return makers[way](experiment)


def entailment_recipe(experiment: Experiment) -> Recipe:
    """Verdicts by the judge in the box as a classifier, calibrated on the first half; the judge near the threshold."""
    from tasks.reporting.verifier_calibration import calibrate_verifier

    recipe = _with_scorers(experiment, _verified(experiment, None))
    first_half = experiment.build(_first_half(experiment))["dataset"]["path"]
    calibration = calibrate_verifier(_place(experiment, first_half), recipe)["calibration"]
    return _with_scorers(experiment, _verified(experiment, calibration), name="entailment")


def distilled_recipe(experiment: Experiment) -> Recipe:
    """A reward model that was trained on the judged answers of the first half, in the judge's place."""
    return _with_scorers(experiment, [reward_scorer(experiment)], name="distilled")


def cascade_recipe(experiment: Experiment) -> Recipe:
    """Claims and the reward model before the judge; calibrated on the third quarter, judged in full."""
    from tasks.reporting.cascade_calibration import calibrate_cascade

    scorers: list[dict[str, Any]] = [{"scorer": "claims", "weight": 0}, {**reward_scorer(experiment), "weight": 0}]
    scorers += _full_scorers(experiment)
    cascade = {"stages": ["claims", "reward_model"], "agreement": AGREEMENT, "control_share": 0}
    change = f"scoring.cascade={json.dumps(cascade)}"
    chosen_on = _with_scorers(experiment, scorers, change, name="cascade", source=third_quarter(experiment))
    dataset = experiment.build(chosen_on)["dataset"]["path"]
    calibration = calibrate_cascade(_place(experiment, dataset), chosen_on)["calibration"]
    change = f"scoring.cascade={json.dumps({**cascade, 'calibration': calibration})}"
    return _with_scorers(experiment, scorers, change, "scoring.prune=true", name="cascade")


def reward_scorer(experiment: Experiment) -> dict[str, Any]:
    """The scorer of the reward model that the first half's judgements have made."""
    from flows.evaluate import local_model_folder
    from flows.shard import shard_recipe
    from flows.train_reward import train_reward

    recipe = _first_half(experiment, *_REWARD_TRAINING)
    manifest = experiment.build(recipe)["dataset"]["manifest"]
    trained = train_reward(shard_recipe(recipe), [manifest])
    folder = local_model_folder(recipe, trained["model"])
    heads = len(recipe.scoring.scorers)
    return {"scorer": "reward_model", "model": str(folder), "with_context": True, "labels": heads, "max_tokens": 4096}


def third_quarter(experiment: Experiment) -> Path:
    """A file with the questions that settings are chosen on."""
    questions = experiment.settings.questions
    lines = (experiment.folder / "train.jsonl").read_text("utf-8").splitlines(keepends=True)
    path = experiment.folder / f"third-quarter-of-{questions}.jsonl"
    path.write_text("".join(lines[questions // 2 : questions // 2 + questions // 4]), "utf-8")
    return path


def verifier_folder(experiment: Experiment) -> Path:
    """The verifier: the judge in the box with a head of three labels, without a step of training."""
    from transformers import AutoTokenizer

    from tasks.microworld.train_verifier import export_verifier, verifier_from_judge

    folder = local_folder(experiment.settings.out) / "verifier"
    if not (folder / "config.json").exists():
        start = Path(resolve_model("microworld-judge"))
        tokenizer = AutoTokenizer.from_pretrained(start)
        export_verifier(verifier_from_judge(start, tokenizer), tokenizer, folder)
    return folder


def _verified(experiment: Experiment, calibration: str | None) -> list[dict[str, Any]]:
    """The full judge's scorers, with a verifier of facts."""
    from tasks.microworld.train_verifier import TEMPLATE

    verifier: dict[str, Any] = {
        "model": str(verifier_folder(experiment)),
        "template": TEMPLATE,
        "labels": {"full": 1, "partial": 0.5},
        "ask_judge_within": WITHIN,
    }
    if calibration is not None:
        verifier["calibration"] = calibration
    scorers = []
    for entry in _full_scorers(experiment):
        scorers.append({**entry, "verifier": verifier} if entry["scorer"] == "faithfulness" else entry)
    return scorers


def _full_scorers(experiment: Experiment) -> list[dict[str, Any]]:
    return [dict(entry) for entry in experiment.recipe(LONGREWARD).scoring.scorers]


def _first_half(experiment: Experiment, *changes: str) -> Recipe:
    return experiment.recipe(LONGREWARD, *changes, questions=experiment.settings.questions // 2)


def _with_scorers(
    experiment: Experiment, scorers: list[dict[str, Any]], *changes: str, name: str = "", source: Path | None = None
) -> Recipe:
    """LongReward's recipe with these scorers, and with its own name of the dataset; `source`: on other questions."""
    own = [f"scoring.scorers={json.dumps(scorers)}"]
    if name:
        own.append(f"dataset.name=evidence-{name}")
    if source is not None:
        own.append(f"questions={json.dumps({'source': str(source)})}")
    return experiment.recipe(LONGREWARD, *own, *changes)


def _place(experiment: Experiment, path: str) -> str:
    from infra.store import open_store

    return open_store(experiment.settings.out).place(path)
