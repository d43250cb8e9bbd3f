"""Train on a published manifest or on others' pairs: DPO, ORPO or SFT in a subprocess; the outcome is in the store."""

import json
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows.recipes import read_recipe
from infra.errors import InputError, MissingError, RecipeError
from infra.models.forms.request_form import template_arguments
from infra.recipe import Recipe, parse_recipe
from infra.running import progress
from infra.running.run_page import announce
from infra.serving import hardware
from infra.serving.servers import local_folder
from infra.store import open_store
from tasks.reporting.tables import training_table
from tasks.training.external import PairSource
from tasks.training.job import TrainingJob
from tasks.training.job import train as run_training
from tasks.training.trainable import training_base

STAGE, REFERENCE = "train", "reference"


@flow(name="train-on-pairs", flow_run_name="train {recipe[name]} on others' pairs", validate_parameters=False)
def train_on_pairs(recipe: dict[str, Any], pairs: dict[str, Any]) -> dict[str, Any]:
    """Train the recipe's base model on pairs that others published; `pairs` are the fields of a PairSource.

    Returns what `train` does, with `source_rows` and the `dropped` ones by reason.
    """
    return _train(training_job(parse_recipe(recipe), "", PairSource(**pairs)))


def train_run_name() -> str:
    """The name of a training's flow run."""
    recipe = flow_run.parameters["recipe"]
    return f"train {recipe if isinstance(recipe, str) else recipe['name']}"


@flow(name="train", flow_run_name=train_run_name, validate_parameters=False)
def train(recipe: dict[str, Any] | str, manifest: str = "") -> dict[str, Any]:
    """Train the recipe's base model on a published dataset. A job that finished before is not trained again.

    Returns {"model": folder in the store, "name", "revision", "kind": "adapter" or "full", "steps", ...}.

    Args:
        recipe: Recipe: a file on the worker, a URL, or a name in the box; a build gives the whole one as JSON.
        manifest: Path in the store of the dataset's manifest.json; empty for that of the latest dataset.
    """
    settings = read_recipe(recipe) if isinstance(recipe, str) else parse_recipe(recipe)
    return _train(training_job(settings, manifest or latest_manifest(settings)))


def latest_manifest(recipe: Recipe) -> str:
    """The path of the latest manifest of the recipe's dataset. Raises InputError where nothing is published."""
    store = open_store(recipe.store)
    path = f"datasets/{recipe.dataset.name}/latest.json"
    try:
        return str(json.loads(store.read(path))["manifest"])
    except MissingError as error:
        raise InputError(f"{store.place(path)}: nothing is published under this name; build it first") from error


def _train(job: TrainingJob) -> dict[str, Any]:
    progress.note(STAGE, "starting")
    steps, reference = StepDisplay(STAGE), _ReferenceDisplay()
    trained = run_training(job, on_step=steps.show_step, on_reference=reference.show_reference).to_json()
    announce(f"train-{trained['revision']}", training_table(trained))
    return trained


class StepDisplay:
    """Shows the steps of a training; a repeated step counts once."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._steps: set[int] = set()

    def show_step(self, step: dict[str, Any]) -> None:
        """Count a step, and show its loss."""
        if not self._steps:
            progress.expect(self._stage, int(step["total_steps"]))
        if step["step"] not in self._steps:
            self._steps.add(step["step"])
            progress.advance(self._stage)
        if step.get("loss") is not None:
            progress.note(self._stage, f"loss {step['loss']:.3f}")


class _ReferenceDisplay:
    """Shows the rows whose reference is computed."""

    def __init__(self) -> None:
        self._rows = 0

    def show_reference(self, computed: int, rows: int) -> None:
        if not self._rows:
            progress.expect(REFERENCE, rows)
        progress.advance(REFERENCE, computed - self._rows)
        self._rows = computed


def training_job(recipe: Recipe, manifest: str, pairs: PairSource | None = None) -> TrainingJob:
    """The job of a recipe, and of a manifest or others' pairs. Raises RecipeError without a training section."""
    if recipe.training is None:
        raise RecipeError("the recipe has no `training` section; add one, or leave training out")
    dtype = hardware.training_dtype(recipe.training.dtype, hardware.has_gpu(), hardware.cpu_flags())
    return TrainingJob(
        store=open_store(recipe.store),
        manifest=manifest,
        settings=recipe.training.model_copy(update={"dtype": dtype}),
        base=training_base(recipe),
        base_revision=recipe.policy.revision,
        folder=Path(local_folder(recipe.store)) / "work",
        seed=recipe.seed,
        trust_remote_code=recipe.policy.trust_remote_code,
        pairs=pairs,
        template_arguments=template_arguments(recipe.policy),
    )
