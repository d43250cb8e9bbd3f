"""The manifest of a dataset: what it says, how it is committed, read and checked.

It is canonical JSON, written last and put-if-absent, and names every file of the dataset by its sha256. Without
its `files` it is known before anything is written (`manifest_head`), so a dataset that stands already is found
without being made again. It holds no time, no machine and no count of calls.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from infra.canonical import canonical, fingerprint
from infra.errors import StoreError
from infra.recipe import Recipe
from infra.store import Store
from tasks.records.dataset import Split
from tasks.records.plan import Plan
from tasks.records.public import public, public_text
from tasks.records.shard import ShardResult

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file of the dataset; `path` is relative to its folder. Tables have rows, a config and a split."""

    path: str
    sha256: str
    bytes: int
    rows: int | None = None
    config: str | None = None  # "pairs", "evidence" or "drops"
    split: str | None = None  # "train" or "test"

    def to_json(self) -> dict[str, Any]:
        """As it stands in a manifest: without what does not apply."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def read_manifest(store: Store, path: str) -> dict[str, Any]:
    """The manifest at `path`. Raises MissingError where there is none, StoreError for what is not a manifest."""
    try:
        manifest = json.loads(store.read(path))
        known = manifest["schema_version"] == SCHEMA_VERSION and isinstance(manifest["files"], list)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{store.show(path)}: not a manifest ({error!r}); remove the folder and build again"
        ) from error
    if not known:
        raise StoreError(f"{store.show(path)}: a manifest of another Longmill (schema {manifest['schema_version']!r})")
    return dict(manifest)


def verify_manifest(store: Store, path: str) -> dict[str, Any]:
    """The manifest at `path`, after hashing every file it names. Raises StoreError naming the first that differs."""
    manifest = read_manifest(store, path)
    for each in manifest["files"]:
        file = f"{path.rpartition('/')[0]}/{each['path']}"
        if hashlib.sha256(store.read(file)).hexdigest() != each["sha256"]:
            raise StoreError(f"{store.show(file)}: was changed after it was published; remove the folder, build again")
    return manifest


def manifests(store: Store, name: str) -> list[tuple[str, str]]:
    """(path, sha256 of its bytes) of every manifest of the dataset `name`, by path."""
    paths = [path for path in store.list(f"datasets/{name}") if path.endswith("/manifest.json")]
    return [(path, hashlib.sha256(store.read(path)).hexdigest()) for path in paths]


def manifest_head(
    plan: Plan, results: Sequence[ShardResult], recipe: Recipe, counts: Mapping[str, Any], split: Split
) -> dict[str, Any]:
    """All of the manifest but its files: what is known before anything is written."""
    shards = {f"{result.shard:04d}": {name: file.sha256 for name, file in result.files.items()} for result in results}
    settings = recipe.dataset.model_dump(mode="json")
    origin = {"plan_id": plan.plan_id, "shards": shards, "dataset": settings, "schema_version": SCHEMA_VERSION}
    return {
        "schema_version": SCHEMA_VERSION,
        "name": recipe.dataset.name,
        "version": fingerprint(origin)[:16],
        "licence": recipe.dataset.licence,
        "plan_id": plan.plan_id,
        "recipe": public(recipe.identity()),
        "prompts": dict(plan.prompts),
        "model": {"name": public_text(recipe.policy.name), "revision": public_text(recipe.policy.revision)},
        "counts": dict(counts),
        "split": split.to_json(),
        "shards": shards,
    }


def standing(store: Store, folder: str, head: Mapping[str, Any]) -> dict[str, Any] | None:
    """The manifest that stands there and is this dataset's, its files whole in number and size; else None.

    Raises StoreError when another one stands there.
    """
    path = f"{folder}/manifest.json"
    if not store.exists(path):
        return None
    manifest = read_manifest(store, path)
    if {name: manifest.get(name) for name in head} != json.loads(canonical(dict(head))):
        raise _conflict(store, path)
    stored = set(store.list(folder))
    paths = {f"{folder}/{each['path']}": each["bytes"] for each in manifest["files"]}
    whole = paths.keys() <= stored and all(store.size(path) == size for path, size in paths.items())
    return manifest if whole else None


def commit(store: Store, folder: str, manifest: Mapping[str, Any]) -> None:
    """Publish: write the manifest. Raises StoreError when one with other bytes stands there."""
    path, data = f"{folder}/manifest.json", canonical(manifest)
    if not store.put_if_absent(path, data) and store.read(path) != data:
        raise _conflict(store, path)


def _conflict(store: Store, path: str) -> StoreError:
    return StoreError(
        f"{store.show(path)}: another manifest stands here, made of the same plan and replies with other settings or "
        "libraries; a published dataset is never changed: remove its folder, or publish under another dataset.name"
    )
