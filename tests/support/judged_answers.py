"""A published dataset of judged answers, and a tiny base model: what a reward model's training works on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.recipe import RewardTraining
from infra.store import Store, open_store
from tasks.publishing import publish
from tasks.records.plan import recipe_path
from tasks.training.reward.job import RewardJob
from tests.support.published import fake_plan, fake_recipe
from tests.support.tiny_model import save_tiny

QUICK = {
    "method": "full",
    "dtype": "float32",
    "learning_rate": 3e-3,
    "batch_size": 4,
    "device_batch_size": 2,
    "gradient_checkpointing": False,
    "save_steps": 2,
}


def publish_judged(folder: Path) -> str:
    """A dataset of 12 questions over 6 contexts with 4 judged answers each, two of them without a pair; returns the
    manifest's path in the store `folder`/mill."""
    store = open_store(str(folder / "mill"))
    recipe = fake_recipe(folder / "mill")
    plan, results = fake_plan(store, recipe)
    store.write(recipe_path(plan.plan_id), json.dumps(recipe.model_dump(mode="json")).encode())
    return publish(plan, results, recipe, store).manifest


def forget_recipe(store: Store) -> None:
    """Without the recipe of its plan, the plan's contexts cannot be read as prompts."""
    for path in list(store.list("plans")):
        if path.endswith("/recipe.json"):
            store.delete(path)


def change_manifest(store: Store, manifest: str, change: Callable[[dict[str, Any]], None]) -> str:
    """Write the manifest anew, changed; returns its path, beside the old one."""
    content = json.loads(store.read(manifest))
    change(content)
    store.write(f"{manifest}.json", json.dumps(content).encode())
    return f"{manifest}.json"


def reward_job(folder: Path, manifest: str, **changes: Any) -> RewardJob:
    """A job on the dataset of the store `folder`/mill."""
    base = folder / "base"
    if not base.exists():
        save_tiny(base)
    settings = RewardTraining.model_validate(QUICK | changes)
    store = open_store(str(folder / "mill"))
    return RewardJob(store, [manifest], settings, str(base), "main", folder / "work", seed=1)
