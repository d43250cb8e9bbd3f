"""Maintenance, on a schedule: train datasets that were published and never trained on, and tidy the store.

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
from infra.running.run_page import announce
from infra.store import Store, open_store
from tasks.maintenance import GRACE_DAYS, unnamed_files, unnamed_rows, view
from tasks.records.manifest import manifests
from tasks.reporting.tables import markdown
from tasks.training.job import stored_training


@flow(name="maintain", flow_run_name="maintain {recipe}")
def maintain(
    recipe: str, changes: tuple[str, ...] = (), remove: bool = False, grace_days: float = GRACE_DAYS
) -> dict[str, Any]:
    """Request training on every manifest of the recipe's dataset without a model; tidy the store.

    Returns {"requested": {manifest: state of its training run}, "unnamed": what nothing names any more (see `tidy`)}.
    A training run that failed is started again from its page in the Prefect UI, not from here.

    Args:
        recipe: Recipe: a file on the worker, a URL (s3://bucket/recipe.yaml), or the name of one in the box.
        changes: Changes of recipe keys, one a line: sampling.samples=8, store=s3://bucket/mill.
        remove: Remove what nothing in the store names any more; without it, it is listed alone.
        grace_days: Days that a file which nothing names stays, for builds that are about to name it.
    """
    settings = read_recipe(recipe, changes)
    store = open_store(settings.store)
    requested: dict[str, str] = {}
    if settings.training is not None:
        for path, sha256 in manifests(store, settings.dataset.name):
            if stored_training(training_job(settings, path)) is None:
                state = request_training(shard_recipe(settings), {"manifest": path, "sha256": sha256})
                requested[path] = state or "there is no deployment to train with"
    unnamed = tidy(store, remove=remove, grace_days=grace_days)
    announce("maintain", markdown(*unnamed_rows(unnamed)))
    return {"requested": requested, "unnamed": unnamed}


def tidy(store: Store, *, remove: bool, grace_days: float) -> dict[str, Any]:
    """Merge small ledger segments, and list the files that nothing names; with `remove` they are removed.

    Returns the number of files, their bytes, both by kind, and the paths.
    """
    with Ledger(store) as ledger:
        ledger.compact(all=True)
    files = unnamed_files(store, grace_days)
    if remove:
        store.delete(*(file.path for file in files))
    return view(files, removed=remove)
