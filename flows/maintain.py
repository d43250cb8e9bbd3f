"""House-keeping, on a schedule: train what was published and never trained, and tidy the ledger.

An event or a call that should have started a training run can be lost when a server restarts; the store is
the record, so this flow compares manifests with models and asks again. Asking twice starts nothing twice.
"""

from typing import Any

from prefect import flow

from flows.build import request_training
from flows.recipes import read_recipe
from flows.shard import shard_recipe
from flows.train import training_job
from infra.ledger import Ledger
from infra.store import open_store
from tasks.publishing import manifests
from tasks.training.job import finished


@flow(name="maintain", flow_run_name="maintain {recipe}")
def maintain(recipe: str, changes: tuple[str, ...] = ()) -> dict[str, Any]:
    """Request the training of every untrained manifest of the recipe's dataset; merge small ledger segments."""
    settings = read_recipe(recipe, changes)
    store = open_store(settings.store)
    requested = []
    if settings.training is not None:
        for path, sha256 in manifests(store, settings.dataset.name):
            untrained = finished(training_job(settings, path)) is None
            if untrained and request_training(shard_recipe(settings), {"manifest": path, "sha256": sha256}):
                requested.append(path)
    ledger = Ledger(store)
    try:
        ledger.compact(all=True)
    finally:
        ledger.close()
    return {"requested": requested}
