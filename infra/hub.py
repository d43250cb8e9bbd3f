"""A repository of a model hub as a place to send files to, by huggingface_hub.

The hub is that of HF_ENDPOINT, the token that of HF_TOKEN; a token file of another program is not read. Large files are
sent before the commit, and one commit at the end makes all of them visible: after a failure the repository is as it
was, and what was sent is not sent again.
"""

import contextlib
import hashlib
import os
import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from infra.errors import HubError, InputError, PrerequisiteError, StoreError
from infra.models.api_key import read_api_key
from infra.running import progress
from infra.store import Store

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

TOKEN = "HF_TOKEN"  # noqa: S105 — the name of the variable
STAGE = "push"
Kind = Literal["dataset", "model"]
_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_QUERY = re.compile(r"\?[^\s'\"]+")  # of an address: it may hold a signature
_BATCH_BYTES = 1 << 30  # of files that are copied to this machine at once, where the store is elsewhere


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file to send: its path in the repository, its size and hash, and where its bytes are.

    `content` holds them, or the file at `source` of the store.
    """

    path: str
    size: int
    sha256: str  # 64 hex digits
    source: str = ""
    content: bytes | None = None

    @classmethod
    def of(cls, path: str, content: bytes) -> "HubFile":
        """A small file with these bytes."""
        return cls(path, len(content), hashlib.sha256(content).hexdigest(), content=content)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file in the repository. Of a large file the hub says the sha256, of a small one git's hash."""

    size: int
    sha256: str | None
    git_hash: str


class Repository:
    """A dataset or a model on the hub, by its name `ORG/NAME`; `kind` is "dataset" or "model"."""

    def __init__(self, name: str, kind: Kind, *, needs_token: bool = True) -> None:
        if not _NAME.fullmatch(name):
            raise InputError(f"{name}: not the name of a repository; write it as ORG/NAME, without an address")
        self.name = name
        self.kind: Kind = kind
        self.token = read_api_key(TOKEN)
        if self.token is None and needs_token:
            missing = PrerequisiteError(f"no token for the hub: export {TOKEN}=... with one that may write to {name}")
            missing.page = HubError.page
            raise missing

    def private(self) -> bool | None:
        """Whether others cannot see it; None where there is no such repository (or not for this token)."""
        from huggingface_hub.errors import RepositoryNotFoundError

        with self._faults():
            try:
                return bool(self._api().repo_info(self.name, repo_type=self.kind).private)
            except RepositoryNotFoundError:
                return None

    def files(self) -> dict[str, RemoteFile]:
        """Its files by path; none where it is not there, or has no commit."""
        from huggingface_hub import RepoFile
        from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

        files: dict[str, RemoteFile] = {}
        with self._faults():
            try:
                for entry in self._api().list_repo_tree(self.name, recursive=True, repo_type=self.kind):
                    if isinstance(entry, RepoFile):
                        sha256 = entry.lfs.sha256 if entry.lfs else None
                        files[entry.path] = RemoteFile(entry.size, sha256, entry.blob_id)
            except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError):
                return {}
        return files

    def read(self, path: str) -> bytes:
        """The bytes of a file of it."""
        with self._faults(), tempfile.TemporaryDirectory() as folder:
            local = self._api().hf_hub_download(self.name, path, repo_type=self.kind, local_dir=folder)
            return Path(local).read_bytes()

    def create(self, *, private: bool) -> None:
        """Make it; one that is there stays as it is."""
        with self._faults():
            self._api().create_repo(self.name, private=private, repo_type=self.kind, exist_ok=True)

    def commit(
        self, store: Store, files: Sequence[HubFile], removed: Iterable[str], message: str, description: str
    ) -> str:
        """Send files of the store and remove others, in one commit; returns its id.

        Raises StoreError for a file whose bytes have another hash.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        progress.expect(STAGE, len(files))
        api = self._api()
        additions: list[CommitOperationAdd] = []
        with self._faults(), _warnings_said(), tempfile.TemporaryDirectory(prefix="longmill-push-") as copies:
            for batch in _batches(files):
                operations = []
                for file in batch:
                    operations.append(CommitOperationAdd(file.path, _bytes_of(store, file, Path(copies))))
                    _check_hash(store, file, operations[-1])
                api.preupload_lfs_files(self.name, operations, repo_type=self.kind, free_memory=True)
                for file, operation in zip(batch, operations, strict=True):
                    if operation.path_or_fileobj == b"":  # sent: the commit needs its hash alone
                        (Path(copies) / file.path).unlink(missing_ok=True)
                    progress.advance(STAGE)
                additions += operations
            removals = [CommitOperationDelete(path) for path in removed]
            done = api.create_commit(
                self.name,
                [*additions, *removals],
                commit_message=message,
                commit_description=description,
                repo_type=self.kind,
            )
        return done.oid

    def tag(self, name: str, message: str, commit: str) -> None:
        """Name a commit, so that it can be read by this name later; a tag that is there stays as it is."""
        with self._faults():
            self._api().create_tag(
                self.name, tag=name, tag_message=message, revision=commit, repo_type=self.kind, exist_ok=True
            )

    @property
    def url(self) -> str:
        """Its page."""
        folder = "datasets/" if self.kind == "dataset" else ""
        return f"{self._api().endpoint}/{folder}{self.name}"

    def _api(self) -> "HfApi":
        from huggingface_hub import HfApi

        return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=self.token or False)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """Raise what the hub's client raises as HubError, without the token."""
        import httpx2

        try:
            yield
        except StoreError:
            raise
        except (httpx2.HTTPError, OSError, ValueError, RuntimeError) as error:
            text, remedy = _cause(error)
            text = _QUERY.sub("", " ".join(text.split()))
            if self.token:
                text = text.replace(self.token, "…")
            raise HubError(f"{self.kind} {self.name} on the hub: {text}; {remedy}") from error


def is_there(store: Store, file: HubFile, remote: RemoteFile | None) -> bool:
    """Whether the repository has this file with the same bytes. A small one is read for it."""
    if remote is None or remote.size != file.size:
        return False
    if remote.sha256 is not None:
        return remote.sha256 == file.sha256
    content = file.content if file.content is not None else store.read(file.source)
    git_hash = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return git_hash == remote.git_hash


@contextlib.contextmanager
def _warnings_said() -> Iterator[None]:
    """Say what the hub warns of, as a line; a model's `metrics.parquet` is meant to be there."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if issubclass(warning.category, UserWarning) and "data file" not in str(warning.message):
            progress.say(" ".join(str(warning.message).split()))


def _cause(error: BaseException) -> tuple[str, str]:
    """What went wrong, and what helps. The client wraps what the hub replied in errors of its own."""
    from huggingface_hub.errors import HfHubHTTPError

    if "metadata in README.md" in str(error):
        return str(error), "the licence (dataset.licence) and the language must be ones that the hub has"
    root = error
    while root.__cause__ is not None and not isinstance(root, HfHubHTTPError):
        root = root.__cause__
    if isinstance(root, HfHubHTTPError):
        status = root.response.status_code
        return root.server_message or f"status {status}", _remedy(status)
    return str(root) or type(root).__name__, "check the network and HF_ENDPOINT, and run it again"


def _remedy(status: int) -> str:
    if status == 401:
        return f"{TOKEN} is not a token that it knows; export one that may write"
    if status == 403:
        return f"the token in {TOKEN} may not write there; take one with write access to the organisation"
    if status == 404:
        return f"check the name, and that the token in {TOKEN} may see it"
    return "run it again: what was sent is not sent again"


def _batches(files: Sequence[HubFile]) -> Iterator[list[HubFile]]:
    """The files in their order, together at most _BATCH_BYTES a batch, or one file."""
    batch: list[HubFile] = []
    size = 0
    for file in files:
        if batch and size + file.size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch


def _bytes_of(store: Store, file: HubFile, copies: Path) -> Any:
    """What the hub's client reads: the bytes, the store's own file, or a copy of it on this machine."""
    if file.content is not None:
        return file.content
    local = store.local_path(file.source)
    if local is None:
        local = copies / file.path
        store.download(file.source, local)
    return local


def _check_hash(store: Store, file: HubFile, operation: "CommitOperationAdd") -> None:
    if operation.upload_info.sha256.hex() != file.sha256:
        raise StoreError(f"{store.place(file.source)}: was changed while it was sent; nothing is visible on the hub")
