"""Whether the servers of a recipe may wait for their first call, since a run will most likely make none."""

import json

from infra.canonical import canonical_json
from infra.errors import StoreError
from infra.recipe import Recipe
from infra.recipe.public import public_settings
from infra.store import Store
from tasks.records.manifest import read_manifest
from tasks.retried_drops import NO_SCORES, RETRIED


def servers_may_wait(store: Store, recipe: Recipe) -> bool:
    """Whether the dataset that was published last under the recipe's name was made with these settings.

    Its questions may have been others. False where questions were dropped for what a server may have refused, since it
    must be asked whether it would do so again, and for what cannot be read: publishing says what is wrong with it.
    """
    try:
        latest = json.loads(store.read(f"datasets/{recipe.dataset.name}/latest.json"))
        manifest = read_manifest(store, latest["manifest"])
        same = manifest["recipe"] == json.loads(canonical_json(public_settings(recipe.identity())))
        return bool(same and not RETRIED.union({NO_SCORES}).intersection(manifest["counts"]["drops"]))
    except (StoreError, ValueError, KeyError, TypeError):
        return False
