"""The manifest of a dataset: how it is made, committed, read and checked.

It is canonical JSON, written last and put-if-absent, and names every file of the dataset by its sha256. Without its
`files` it is known before anything is written (`manifest_head`), so a dataset that is published already is found
without making it again. It holds no time, no machine and no count of calls.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from infra.canonical import canonical_json, fingerprint
from infra.errors import StoreError
from infra.recipe import Recipe
from infra.recipe.public import public_settings, public_text
from infra.store import Store
from tasks.records.dataset import Split
from tasks.records.plan import Plan
from tasks.records.shard import ShardResult
from tasks.records.table import BUILD_AGAIN, check_bytes

SCHEMA_VERSION = 1


class ManifestFile(TypedDict):
    """A file of the dataset, as it is listed in the manifest; `path` is relative to the dataset's folder."""

    path: str
    sha256: str
    bytes: int
    rows: NotRequired[int]  # this and the following for tables only
    config: NotRequired[str]  # "pairs", "evidence" or "drops"
    split: NotRequired[str]  # "train" or "test"


def read_manifest(store: Store, path: str) -> dict[str, Any]:
    """The manifest at `path`. Raises MissingError where there is none, StoreError for what is not a manifest."""
    return parse_manifest(store.read(path), store.place(path))


def parse_manifest(data: bytes, place: str) -> dict[str, Any]:
    """The manifest in the bytes of the file at `place`. Raises StoreError for what is not a manifest."""
    try:
        manifest = json.loads(data)
        version = manifest["schema_version"]
        readable = version == SCHEMA_VERSION and isinstance(manifest["files"], list)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{place}: not a manifest ({error!r}); remove the folder and build again") from error
    if not readable:
        raise StoreError(f"{place}: a manifest of another Longmill (schema {version!r})")
    return dict(manifest)


def verify_manifest(store: Store, path: str) -> dict[str, Any]:
    """The manifest at `path`, after hashing every file it names. Raises StoreError naming the first that differs."""
    manifest = read_manifest(store, path)
    folder = path.rpartition("/")[0]
    for file in manifest["files"]:
        check_bytes(store, f"{folder}/{file['path']}", file["sha256"], remedy=BUILD_AGAIN)
    return manifest


def manifests(store: Store, name: str) -> list[tuple[str, str]]:
    """(path, sha256 of its bytes) of every manifest of the dataset `name`, by path."""
    hashes = []
    for path in store.list(f"datasets/{name}"):
        if path.endswith("/manifest.json"):
            hashes.append((path, hashlib.sha256(store.read(path)).hexdigest()))
    return hashes


def manifest_head(
    plan: Plan, results: Sequence[ShardResult], recipe: Recipe, counts: Mapping[str, Any], split: Split
) -> dict[str, Any]:
    """The manifest without its files: all of it that is known before anything is written."""
    shards = {}
    for result in results:
        shards[f"{result.shard:04d}"] = {name: table.sha256 for name, table in result.files.items()}
    settings = recipe.dataset.model_dump(mode="json")
    origin = {"plan_id": plan.plan_id, "shards": shards, "dataset": settings, "schema_version": SCHEMA_VERSION}
    return {
        "schema_version": SCHEMA_VERSION,
        "name": recipe.dataset.name,
        "version": fingerprint(origin)[:16],
        "licence": recipe.dataset.licence,
        "plan_id": plan.plan_id,
        "recipe": public_settings(recipe.identity()),
        "prompts": dict(plan.prompts),
        "model": {"name": public_text(recipe.policy.name), "revision": public_text(recipe.policy.revision)},
        "counts": dict(counts),
        "split": split.to_json(),
        "shards": shards,
    }


def finished_manifest(store: Store, folder: str, head: Mapping[str, Any]) -> dict[str, Any] | None:
    """The dataset's manifest when it is there already and every file is there in its size; else None.

    `head` is the manifest without its files. Raises StoreError for a manifest with another head.
    """
    path = f"{folder}/manifest.json"
    if not store.exists(path):
        return None
    manifest = read_manifest(store, path)
    head_there = {name: manifest.get(name) for name in head}
    if head_there != json.loads(canonical_json(dict(head))):
        raise _conflict(store, path)
    stored = store.sizes(folder)
    for file in manifest["files"]:
        if stored.get(f"{folder}/{file['path']}") != file["bytes"]:
            return None
    return manifest


def commit(store: Store, folder: str, manifest: Mapping[str, Any]) -> None:
    """Publish: write the manifest. Raises StoreError when one with other bytes stands there."""
    path, data = f"{folder}/manifest.json", canonical_json(manifest)
    if not store.put_if_absent(path, data) and store.read(path) != data:
        raise _conflict(store, path)


def _conflict(store: Store, path: str) -> StoreError:
    return StoreError(
        f"{store.place(path)}: another manifest stands here, made of the same plan and replies with other settings or "
        "libraries; a published dataset is never changed: remove its folder, or publish under another dataset.name"
    )
