"""Sending a published dataset or a trained model to a model hub.

Of a dataset exactly the files that its manifest names go, and the manifest, each hashed before anything leaves: the
repository is the dataset's folder, so `longmill inspect` reads a download of it, and `datasets` its card. A model gets
such a manifest here. A file that the repository has with the same bytes is not sent; a file of an earlier version,
which the manifest there names and this one does not, is removed in the same commit, and stays in its history.
Leaves out: the checkpoints of a model, and the repository's settings after it was made.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from infra.canonical import canonical_json
from infra.errors import InputError
from infra.hub import HubFile, RemoteFile, Repository, is_there
from infra.recipe.public import public_settings
from infra.store import Store
from tasks.records.manifest import SCHEMA_VERSION
from tasks.records.reader import PublishedDataset
from tasks.records.table import BUILD_AGAIN, check_bytes, hash_bytes
from tasks.training.checkpoints import FOLDER as CHECKPOINTS

MANIFEST = "manifest.json"
_JOB = "job.json"
_OF_THE_HUB = {".gitattributes", "README.md"}  # which it makes with a repository


@dataclass(frozen=True, slots=True)
class Pushed:
    """What was sent, or would be (`dry_run`): paths in the repository, and bytes."""

    repository: str
    url: str
    kind: str  # "dataset" or "model"
    private: bool
    manifest: str  # the sha256 of the manifest's bytes
    tag: str  # of the commit
    commit: str  # empty where nothing was to be done
    sent: Sequence[str]
    sent_bytes: int
    there: int  # files that the repository has already
    removed: Sequence[str]  # of an earlier version
    dry_run: bool

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def push_dataset(
    dataset: PublishedDataset, repository: Repository, *, private: bool = True, dry_run: bool = False
) -> Pushed:
    """Send a dataset, after hashing every file of it.

    Raises StoreError for a file that is missing or was changed, InputError for a repository with files of others and
    for a public one where `private`, HubError where the hub refuses something.
    """
    store, manifest = dataset.store, dataset.manifest
    files = []
    for file in manifest["files"]:
        source = f"{dataset.folder}/{file['path']}".lstrip("/")
        check_bytes(store, source, file["sha256"], remedy=BUILD_AGAIN)
        files.append(HubFile(file["path"], file["bytes"], file["sha256"], source))
    files.append(HubFile.of(MANIFEST, store.read(f"{dataset.folder}/{MANIFEST}".lstrip("/"))))
    about = f"{manifest['name']} {manifest['version']}"
    return _push(store, repository, files, about, manifest["version"], private, dry_run)


def push_model(
    store: Store, folder: str, repository: Repository, *, private: bool = True, dry_run: bool = False
) -> Pushed:
    """Send a model that was trained here, from its folder in the store, with the card that the evaluation completed.

    Raises InputError for a folder without a finished model, and else as `push_dataset`.
    """
    start = f"{folder}/" if folder else ""
    if not store.exists(f"{start}result.json"):
        raise InputError(f"{store.place(folder)}: no trained model there (no result.json); give the folder of one")
    result = json.loads(store.read(f"{start}result.json"))
    files, listed = [], []
    for path, size in sorted(store.sizes(folder).items()):
        name = path.removeprefix(start)
        if name.startswith(f"{CHECKPOINTS}/") or name == MANIFEST:
            continue
        if name == _JOB:  # what it was asked for, without the folders of this machine
            file = HubFile.of(name, canonical_json(public_settings(json.loads(store.read(path)))))
        else:
            file = HubFile(name, size, hash_bytes(store, path), path)
        files.append(file)
        listed.append({"path": file.path, "sha256": file.sha256, "bytes": file.size})
    about = {name: result.get(name) for name in ("name", "revision", "kind", "loss", "base")}
    manifest = {"schema_version": SCHEMA_VERSION, "model": about, "files": listed}
    files.append(HubFile.of(MANIFEST, canonical_json(manifest)))
    return _push(store, repository, files, result["name"], result["revision"], private, dry_run)


def _push(
    store: Store,
    repository: Repository,
    files: Sequence[HubFile],
    about: str,
    tag: str,
    private: bool,
    dry_run: bool,
) -> Pushed:
    """Send the files that are not there, the last of which is the manifest. `about`: what the commit says it is."""
    is_private, remote = None, {}
    if repository.token is not None:
        is_private, remote = repository.private(), repository.files()
    if private and is_private is False:
        raise InputError(f"{repository.name}: is there already, and public; give --public to send there, or a new name")
    missing = [file for file in files if not is_there(store, file, remote.get(file.path))]
    earlier = _earlier_files(repository, remote)
    removed = sorted((earlier & remote.keys()).difference(file.path for file in files))
    manifest, commit = files[-1].sha256, ""
    if not dry_run:
        if is_private is None:
            repository.create(private=private)
        if missing or removed:
            description = f"manifest.json has the sha256 {manifest}. Sent by longmill push."
            message = f"{about}, manifest {manifest[:16]}"
            commit = repository.commit(store, missing, removed, message, description)
        repository.tag(tag, f"manifest {manifest}", commit or "main")
    return Pushed(
        repository=repository.name,
        url=repository.url,
        kind=repository.kind,
        private=private if is_private is None else is_private,
        manifest=manifest,
        tag=tag,
        commit=commit,
        sent=[file.path for file in missing],
        sent_bytes=sum(file.size for file in missing),
        there=len(files) - len(missing),
        removed=removed,
        dry_run=dry_run,
    )


def _earlier_files(repository: Repository, remote: Mapping[str, RemoteFile]) -> set[str]:
    """The files that the manifest of an earlier push names; none in a new repository.

    Raises InputError for a repository with files of others: they are not written over.
    """
    if MANIFEST in remote:
        try:
            manifest = json.loads(repository.read(MANIFEST))
            if manifest["schema_version"] == SCHEMA_VERSION and manifest.keys() & {"plan_id", "model"}:
                return {str(file["path"]) for file in manifest["files"]}
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
    others = sorted(remote.keys() - _OF_THE_HUB)
    if others:
        raise InputError(
            f"{repository.name}: has files that no push of Longmill has sent ({', '.join(others[:3])}); "
            "push to another name"
        )
    return set()
