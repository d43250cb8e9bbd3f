"""The store: everything that Longmill keeps, under one folder or URL.

Paths are relative, separated by "/", and checked. A write is atomic and final; what is written once under a
name made of its content is never changed. Faults (network, permissions, a full disk) become a StoreError that
names the place, the cause and the remedy; credentials come from the environment and never stand in a URL.
One store may be used from several threads. Leaves out: locks, and anything that must be read to be listed.
"""

import contextlib
import errno
import hashlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import MissingError, StoreError
from infra.store.local import LocalFolder

_DICTIONARY_BYTES = 256 << 20  # the default of 1 MiB gives up on a column that repeats a long context
_PASSWORD = re.compile(r"//[^/@\s]+@")
Paths = list[str]  # a name of its own, because `list` is a verb of the store
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]")


class Backend(Protocol):
    """What a store needs from the place that it lies in. The methods are those of `Store`, without its checks."""

    url: str
    faults: tuple[type[Exception], ...]
    access_remedy: str

    @property
    def filesystem(self) -> Any: ...
    def full(self, path: str) -> str: ...
    def show(self, path: str) -> str: ...
    def local(self, path: str) -> Path | None: ...
    def read(self, path: str) -> bytes: ...
    def open(self, path: str) -> BinaryIO: ...
    def write(self, path: str, data: bytes) -> None: ...
    def put_if_absent(self, path: str, data: bytes) -> bool: ...
    def exists(self, path: str) -> bool: ...
    def size(self, path: str) -> int: ...
    def sizes(self, prefix: str) -> dict[str, int]: ...
    def delete(self, *paths: str) -> None: ...
    def move(self, source: str, target: str) -> None: ...
    def download(self, path: str, target: Path) -> None: ...
    def upload(self, source: Path, path: str) -> None: ...


class Store:
    """A folder or bucket prefix. Every method raises StoreError, and MissingError where nothing is stored."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.url = backend.url

    @property
    def filesystem(self) -> Any:
        """The fsspec file system, for libraries that read by themselves; use it with `full`."""
        return self._backend.filesystem

    def full(self, path: str) -> str:
        """The path as `filesystem` takes it."""
        return self._backend.full(_checked(path))

    def show(self, path: str) -> str:
        """What a person would paste: a local path or a URL."""
        return self._backend.show(_checked(path))

    def local(self, path: str) -> Path | None:
        """The path on this machine, or None where the store is not a folder."""
        return self._backend.local(_checked(path))

    def read(self, path: str) -> bytes:
        """The whole file."""
        with self._named("read", path):
            return self._backend.read(path)

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """The file, open for reading at any position; faults while the block reads are named too."""
        with self._named("read", path), self._backend.open(path) as file:
            yield file

    def write(self, path: str, data: bytes) -> None:
        """Write or replace a file; readers see all of it or nothing."""
        with self._named("write", path):
            self._backend.write(path, data)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Write a file unless it exists. False when it does; of many writers exactly one gets True.

        Where a server ignores conditional writes, or a file system has no hard links, this is a look and then
        a write, and a warning says so once.
        """
        with self._named("write", path):
            return self._backend.put_if_absent(path, data)

    def exists(self, path: str) -> bool:
        """Whether a file (not a folder) stands there."""
        with self._named("read", path):
            return self._backend.exists(path)

    def size(self, path: str) -> int:
        """Bytes."""
        with self._named("read", path):
            return self._backend.size(path)

    def list(self, prefix: str = "") -> Paths:
        """Every file below the folder `prefix`, whatever its depth, sorted; [] where there is no such folder."""
        return sorted(self.sizes(prefix))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """The files that `list` names, with their bytes."""
        folder = prefix.rstrip("/")
        with self._named("list", folder):
            return self._backend.sizes(folder)

    def delete(self, *paths: str) -> None:
        """Remove files. Those already gone are fine."""
        for path in paths:
            _checked(path)
        with self._named("delete", paths[0] if paths else ""):
            self._backend.delete(*paths)

    def move(self, source: str, target: str) -> None:
        """Rename a file; on an object store a copy and a removal."""
        _checked(target)
        with self._named("move", source):
            self._backend.move(source, target)

    def fetch(self, prefix: str, folder: Path) -> None:
        """Copy everything below the folder `prefix` to a folder of this machine. Raises MissingError for nothing."""
        start = prefix.rstrip("/") + "/"
        paths = self.list(prefix)
        if not paths:
            raise MissingError(f"{self.show(prefix)}: nothing is stored there; check the name")
        for path in paths:
            with self._named("copy", path):
                target = folder / path.removeprefix(start)
                target.parent.mkdir(parents=True, exist_ok=True)
                self._backend.download(path, target)

    def send(self, folder: Path, prefix: str) -> Paths:
        """Copy a folder of this machine to below `prefix`, in the order of names; returns the paths."""
        paths = []
        for source in sorted(path for path in folder.rglob("*") if path.is_file()):
            path = f"{prefix.rstrip('/')}/{source.relative_to(folder).as_posix()}"
            with self._named("write", path):
                self._backend.upload(source, path)
            paths.append(path)
        return paths

    def read_table(self, path: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A Parquet file as an Arrow table; of `columns` alone, and then no other bytes are fetched."""
        try:
            if columns is None:
                return pq.ParquetFile(io.BytesIO(self.read(path))).read()
            with self.open(path) as file:
                return pq.ParquetFile(file).read(columns=list(columns))
        except pa.ArrowInvalid as error:
            raise StoreError(
                f"{self.show(path)}: not a whole Parquet file ({error}); remove it and run again"
            ) from error

    def write_table(self, path: str, table: pa.Table, *, rows_per_group: int | None = None) -> str:
        """Write a table as Parquet; returns the sha256 of its bytes, 64 hex digits. See `table_bytes`."""
        data = table_bytes(table, rows_per_group=rows_per_group)
        self.write(path, data)
        return hashlib.sha256(data).hexdigest()

    @contextlib.contextmanager
    def _named(self, verb: str, path: str) -> Iterator[None]:
        """Give a fault its place, cause and remedy."""
        place = self._backend.show(_checked(path))
        try:
            yield
        except FileNotFoundError as error:
            raise MissingError(f"{place}: nothing is stored there; check the name and the recipe's store") from error
        except self._backend.faults as error:
            words = getattr(error, "strerror", None) or str(error) or type(error).__name__
            cause = _PASSWORD.sub("//", words)
            raise StoreError(f"{place}: cannot {verb} ({cause}); {self._remedy(error)}") from error

    def _remedy(self, error: Exception) -> str:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT):
            return "free some space, or set the recipe's store to another place, and run again to resume"
        if number == errno.ENXIO:
            return "make the bucket, or correct the recipe's store"
        if isinstance(error, PermissionError) or "redentials" in type(error).__name__:
            return self._backend.access_remedy
        if self._backend.local("") is None:
            return "check the network and AWS_ENDPOINT_URL, and run again to resume"
        return "check the disk and the path, and run again to resume"


def open_store(url: str) -> Store:
    """The store at a folder's path, a file:// URL or any fsspec URL such as s3://bucket/prefix.

    Nothing is read or made before the first use. Raises StoreError for a URL that cannot name a store; one with
    a password in it is refused, and not shown.
    """
    protocol, separator, rest = url.partition("://")
    if separator and "@" in rest.partition("/")[0]:
        raise StoreError(
            f"a {protocol} store with a user or password in its URL is refused, because URLs reach logs and manifests; "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"
        )
    if not url.strip() or _UNSAFE.search(url):
        raise StoreError("the store's URL is empty or has control characters; give a folder or s3://bucket/prefix")
    if not separator or protocol in ("file", "local"):
        return Store(LocalFolder(Path(os.path.abspath(Path(rest if separator else url).expanduser()))))  # noqa: PTH100
    if not rest.strip("/") or any(mark in rest for mark in "?#"):
        raise StoreError(f"{protocol}:// store: write it as {protocol}://bucket/prefix, without '?' or '#'")
    _checked(rest.strip("/"))
    from infra.store.objects import ObjectStore

    try:
        return Store(ObjectStore(protocol, rest))
    except (ValueError, ImportError) as error:
        raise StoreError(
            f"{protocol}://: no such kind of store ({error}); use a folder or s3://bucket/prefix"
        ) from error


def table_bytes(
    table: pa.Table, *, rows_per_group: int | None = None, dictionary: bool | Sequence[str] = True
) -> bytes:
    """A table as Parquet: zstd level 3, dictionaries of up to 256 MiB; equal tables give equal bytes.

    `rows_per_group` bounds what one random row costs to read; `dictionary` names the columns that repeat.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.combine_chunks(),  # how a table was put together must not show in its bytes
        sink,
        row_group_size=rows_per_group,
        compression="zstd",
        compression_level=3,
        use_dictionary=dictionary if isinstance(dictionary, bool) else list(dictionary),
        dictionary_pagesize_limit=_DICTIONARY_BYTES,
        write_page_checksum=True,
    )
    return bytes(sink.getvalue().to_pybytes())


def _checked(path: str) -> str:
    """The path itself. Raises StoreError for one that could leave the store or hide in a listing."""
    if path and (_UNSAFE.search(path) or any(part in ("", ".", "..") for part in path.split("/"))):
        raise StoreError(
            f"{path!r} is not a path in a store: use names separated by '/', without '..', backslashes, "
            "control characters or a leading '/'"
        )
    return path
