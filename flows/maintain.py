"""Maintenance, on a schedule: train datasets that were published and never trained on, and compact the ledger.

An event or a call that should have started a training run can be lost when a server restarts. The store is the
record, so this flow compares manifests with models and requests the missing runs. A second request for a run starts
nothing.
"""

from typing import Any

from prefect import flow

from flows.build import request_training
from flows.recipes import read_recipe
from flows.shard import shard_recipe
from flows.train import training_job
from infra.ledger import Ledger
from infra.store import open_store
from tasks.records.manifest import manifests
from tasks.training.job import stored_training


@flow(name="maintain", flow_run_name="maintain {recipe}")
def maintain(recipe: str, changes: tuple[str, ...] = ()) -> dict[str, Any]:
    """Request training on every manifest of the recipe's dataset without a model; merge small ledger segments.

    Returns {"requested": {manifest: state of its training run}}. A training run that failed is started again from its
    page in the Prefect UI, not from here.

    Args:
        recipe: Recipe: a file on the worker, a URL (s3://bucket/recipe.yaml), or the name of one in the box.
        changes: Changes of recipe keys, one a line: sampling.samples=8, store=s3://bucket/mill.
    """
    settings = read_recipe(recipe, changes)
    store = open_store(settings.store)
    requested: dict[str, str] = {}
    if settings.training is not None:
        for path, sha256 in manifests(store, settings.dataset.name):
            if stored_training(training_job(settings, path)) is None:
                state = request_training(shard_recipe(settings), {"manifest": path, "sha256": sha256})
                requested[path] = state or "there is no deployment to train with"
    ledger = Ledger(store)
    try:
        ledger.compact(all=True)
    finally:
        ledger.close()
    return {"requested": requested}
