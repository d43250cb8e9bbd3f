"""Models that a person names on the command line, as parameters of the flow that compares models."""

import json
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from flows.cli.models_at import served_model
from flows.cli.views import path_in_store, trained_at
from flows.recipes import read_recipe
from infra.errors import InputError, UsageError
from infra.store import open_store
from tasks.training.checkpoints import FOLDER as CHECKPOINTS

KEEP = "train with training.keep_checkpoints: true, which leaves one every training.save_steps"


def contenders_of(store: str, models: Sequence[str], recipes: Sequence[str]) -> list[dict[str, Any]]:
    """Trained models by their folders, NAME=FOLDER,FOLDER for several seeds, or NAME=URL; then other recipes' policies.

    Raises RecipeError for names that are there twice, InputError for a folder without a model.
    """
    contenders: list[dict[str, Any]] = []
    for text in models:
        if "://" in text:
            served = served_model(text).as_trained()
            contenders.append(_contender(str(served["name"]), [served]))
            continue
        name, equals, folders = text.partition("=")
        seeds = [trained_at(store, folder) for folder in (folders if equals else text).split(",")]
        if not equals and len(seeds) > 1:
            raise UsageError(f"--model {text}: give the seeds of one model a name: --model NAME={text}")
        contenders.append(_contender(name if equals else str(seeds[0]["name"]), seeds))
    for recipe in recipes:
        other = read_recipe(recipe)
        contenders.append(_contender(f"{other.policy.name} of {other.name}", [], other.model_dump(mode="json")))
    names = [str(contender["name"]) for contender in contenders]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"compare: two models are called {name}; name one with --model NAME=FOLDER")
    return contenders


def checkpoints_of(store: str, model: str) -> list[dict[str, Any]]:
    """The checkpoints of a trained model, in the order of their steps. Raises InputError where none were stored."""
    result = path_in_store(store, model, "result.json")
    folder = result.rpartition("/")[0]
    files = open_store(store)
    _, folders = files.children(f"{folder}/{CHECKPOINTS}")
    contenders = []
    for checkpoint in sorted(folders, key=lambda path: int(PurePosixPath(path).name)):
        trained = json.loads(files.read(f"{checkpoint}/result.json"))
        contenders.append(_contender(f"step {trained['steps']}", [trained], step=int(trained["steps"])))
    if not contenders:
        raise InputError(f"{model}: has no checkpoints; {KEEP}")
    return contenders


def _contender(
    name: str, seeds: list[dict[str, Any]], recipe: dict[str, Any] | None = None, step: int | None = None
) -> dict[str, Any]:
    return {"name": name, "seeds": seeds, "recipe": recipe, "step": step}
