"""A small build for tests of faults: four questions in two shards, sixteen calls of the stub, four in flight."""

import hashlib
from pathlib import Path
from typing import Any

from flows.bench.common import stub_recipe, write_questions
from infra.recipe import Recipe
from infra.store import open_store

CALLS = 16
IN_FLIGHT = 4


def small_recipe(folder: Path, url: str, store: str = "", **sections: dict[str, Any]) -> Recipe:
    """The recipe, with its questions in `folder`. `sections` are merged in."""
    write_questions(folder / "questions.jsonl", 4, 300)
    execution = {"shard_size": 2, "batch_calls": 4, "concurrency": IN_FLIGHT, "attempts": 3, "task_retries": 0}
    execution |= sections.pop("execution", {})
    recipe = stub_recipe(folder, url, execution=execution, sampling={"samples": 4}, **sections)
    return recipe.model_copy(update={"store": store}) if store else recipe


def run_build(recipe: Recipe) -> dict[str, Any]:
    """Build in this process."""
    from flows.build import build

    built: dict[str, Any] = build(recipe)
    return built


def dataset_files(store_url: str, built: dict[str, Any]) -> dict[str, str]:
    """The sha256 of every file of the published dataset, by its path in it."""
    store = open_store(store_url)
    folder = built["dataset"]["path"]
    hashes = {}
    for path in store.list(folder):
        hashes[path.removeprefix(f"{folder}/")] = hashlib.sha256(store.read(path)).hexdigest()
    return hashes
