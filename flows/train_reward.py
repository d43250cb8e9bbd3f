"""Train a reward model on the judged answers of published datasets, in a subprocess; the outcome is in the store."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow

from flows.recipes import read_recipe
from flows.train import StepDisplay, latest_manifest
from infra.recipe import Recipe, parse_recipe
from infra.running import progress
from infra.running.run_page import announce
from infra.serving import hardware
from infra.serving.servers import local_folder
from infra.store import open_store
from tasks.reporting.tables import markdown
from tasks.training.reward.card import held_out_rows, summary_rows
from tasks.training.reward.job import RewardJob
from tasks.training.reward.job import train_reward as run_training
from tasks.training.trainable import policy_folder

STAGE, SCORING = "train", "score"


@flow(name="train-reward", flow_run_name="train a reward model", validate_parameters=False)
def train_reward(recipe: dict[str, Any] | str, manifests: Sequence[str] = ()) -> dict[str, Any]:
    """Train a reward model on all judged answers of datasets. A job that finished before is not trained again.

    Returns {"model": folder in the store, "name", "heads", "steps", "figures" on held-out contexts, ...}.

    Args:
        recipe: Recipe: a file on the worker, a URL, a name in the box, or the whole one as JSON.
        manifests: Paths in the store of the datasets' manifest.json; none for the latest of the recipe's dataset.
    """
    settings = read_recipe(recipe) if isinstance(recipe, str) else parse_recipe(recipe)
    job = reward_job(settings, list(manifests) or [latest_manifest(settings)])
    progress.note(STAGE, "starting")
    trained = run_training(job, on_step=StepDisplay(STAGE).show_step, on_scored=_show_scored).to_json()
    tables = [markdown(*summary_rows(trained)), markdown(*held_out_rows(trained["figures"]))]
    announce(f"train-reward-{trained['revision']}", "\n\n".join(tables))
    return trained


def _show_scored(scored: int, questions: int) -> None:
    if scored == 1:
        progress.expect(SCORING, questions)
    progress.advance(SCORING)


def reward_job(recipe: Recipe, manifests: Sequence[str]) -> RewardJob:
    """The job of a recipe's `reward_training` on these datasets."""
    settings = recipe.reward_training
    dtype = hardware.training_dtype(settings.dtype, hardware.has_gpu(), hardware.cpu_flags())
    return RewardJob(
        store=open_store(recipe.store),
        manifests=manifests,
        settings=settings.model_copy(update={"dtype": dtype}),
        base=settings.base or policy_folder(recipe),
        base_revision=recipe.policy.revision,
        folder=Path(local_folder(recipe.store)) / "work",
        seed=recipe.seed,
        trust_remote_code=recipe.policy.trust_remote_code,
    )
