"""The store: all files that Longmill writes, under one folder or URL.

Paths are relative, separated by "/", and checked. A write is atomic: readers see the whole file or none. Faults
(network, permissions, a full disk) become a StoreError that names the place, the cause and the remedy. Credentials
come from the environment; a URL that contains some is refused. A store may be used from several threads.
Leaves out: locks (see lease.py), and metadata of files.
"""

import contextlib
import errno
import hashlib
import io
import os
import re
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from infra.errors import MissingError, StoreError
from infra.store.local import LocalFolder
from infra.urls import without_user

if TYPE_CHECKING:  # loaded where a table is read or written, for many commands need none
    import pyarrow as pa

Paths = list[str]  # inside the class, `list` is the method

_READ_AHEAD = 32  # small files that are read at once
_DICTIONARY_BYTES = 256 << 20  # with the default, 1 MiB, a column that repeats long contexts gets no dictionary
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]")


class Backend(Protocol):
    """Where a store's files are. The methods are those of `Store`, which checks paths and translates faults.

    `faults` are the exceptions that its methods raise; `access_remedy` says what to do when access is refused.
    """

    url: str
    faults: tuple[type[Exception], ...]
    access_remedy: str

    def place(self, path: str) -> str: ...
    def local_path(self, path: str) -> Path | None: ...
    def read(self, path: str) -> bytes: ...
    def open(self, path: str) -> BinaryIO: ...
    def write(self, path: str, data: bytes) -> None: ...
    def put_if_absent(self, path: str, data: bytes) -> bool: ...
    def has_one_winner(self) -> bool: ...
    def exists(self, path: str) -> bool: ...
    def size(self, path: str) -> int: ...
    def sizes(self, prefix: str) -> dict[str, int]: ...
    def children(self, folder: str) -> tuple[list[str], list[str]]: ...
    def written(self, prefix: str) -> dict[str, tuple[int, float]]: ...
    def delete(self, *paths: str) -> None: ...
    def move(self, source: str, target: str) -> None: ...
    def copy(self, targets: Mapping[str, str]) -> None: ...
    def download(self, path: str, target: Path) -> None: ...
    def upload(self, source: Path, path: str) -> None: ...


class Store:
    """A folder or bucket prefix. Every method raises StoreError, and MissingError where nothing is stored."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.url = backend.url

    def place(self, path: str) -> str:
        """What a person would paste: a local path or a URL."""
        return self._backend.place(_check_path(path))

    def local_path(self, path: str) -> Path | None:
        """The path on this machine, or None where the store is not a folder."""
        return self._backend.local_path(_check_path(path))

    def read(self, path: str) -> bytes:
        """The whole file."""
        with self._translated_faults("read", path):
            return self._backend.read(path)

    def read_several(self, paths: Iterable[str]) -> Iterator[bytes | None]:
        """The small files at `paths` one after another, None for one that is not there; some are read ahead."""
        with ThreadPoolExecutor(_READ_AHEAD) as pool:
            ahead: deque[Future[bytes | None]] = deque()
            try:
                for path in paths:
                    ahead.append(pool.submit(self._read_if_there, path))
                    if len(ahead) > _READ_AHEAD:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:  # the reader may stop early
                pool.shutdown(cancel_futures=True)

    def _read_if_there(self, path: str) -> bytes | None:
        try:
            return self.read(path)
        except MissingError:
            return None

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """The file, open for reading at any position; faults inside the `with` block become StoreError too."""
        with self._translated_faults("read", path), self._backend.open(path) as file:
            yield file

    def write(self, path: str, data: bytes) -> None:
        """Write or replace a file; readers see all of it or nothing."""
        with self._translated_faults("write", path):
            self._backend.write(path, data)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Write a file unless it exists. True for exactly one of many writers, False for the others.

        Where a server ignores conditional writes, or a file system has no hard links, it checks first and then
        writes, so two writers at the same moment may both get True; a warning is logged once.
        """
        with self._translated_faults("write", path):
            return self._backend.put_if_absent(path, data)

    def has_one_winner(self) -> bool:
        """Whether `put_if_absent`, when it last returned True, did so for one writer alone for certain."""
        with self._translated_faults("write", ""):
            return self._backend.has_one_winner()

    def exists(self, path: str) -> bool:
        """Whether there is a file, and not a folder, at this path."""
        with self._translated_faults("read", path):
            return self._backend.exists(path)

    def size(self, path: str) -> int:
        """Bytes."""
        with self._translated_faults("read", path):
            return self._backend.size(path)

    def list(self, prefix: str = "") -> Paths:
        """Every file below the folder `prefix`, whatever its depth, sorted; [] where there is no such folder."""
        return sorted(self.sizes(prefix))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Bytes of every file below the folder `prefix`, by path."""
        folder = prefix.rstrip("/")
        with self._translated_faults("list", folder):
            return self._backend.sizes(folder)

    def children(self, prefix: str = "") -> tuple[Paths, Paths]:
        """Files and folders that lie in the folder `prefix` itself, sorted: one listing, however much is below it."""
        folder = prefix.rstrip("/")
        with self._translated_faults("list", folder):
            files, folders = self._backend.children(folder)
        return sorted(files), sorted(folders)

    def written_at(self, path: str) -> datetime:
        """When a file was written, by the store's clock, UTC. Raises StoreError where the store does not say it."""
        with self._translated_faults("read", path):
            written = self._backend.written(path)
            if path not in written:
                raise FileNotFoundError
        return datetime.fromtimestamp(written[path][1], UTC)

    def ages(self, prefix: str = "") -> dict[str, tuple[int, float]]:
        """Bytes of every file below the folder `prefix`, and the seconds since it was written, by path.

        In a folder also the files that killed writes have left. The age is by the clock of the store itself: that of
        an object which is written now.
        """
        probe = f".probe/{uuid.uuid4().hex}"
        self.write(probe, b"now")
        with self._translated_faults("list", prefix.rstrip("/")):
            try:
                now = self._backend.written(".probe")[probe][1]
            finally:
                self._backend.delete(probe)
            written = self._backend.written(prefix.rstrip("/"))
        return {path: (size, now - time) for path, (size, time) in written.items()}

    def delete(self, *paths: str) -> None:
        """Remove files; a file that is already gone is no error."""
        for path in paths:
            _check_path(path)
        with self._translated_faults("delete", paths[0] if paths else ""):
            self._backend.delete(*paths)

    def move(self, source: str, target: str) -> None:
        """Rename a file; on an object store a copy and a removal."""
        _check_path(target)
        with self._translated_faults("move", source):
            self._backend.move(source, target)

    def copy(self, targets: Mapping[str, str]) -> None:
        """Give files a second place, by source; none is read here: a hard link, or a copy that the server makes.

        For files that are named by their content: a target that is there already may stay as it is. Raises
        MissingError where a source is not there.
        """
        for target in targets.values():
            _check_path(target)
        with self._translated_faults("copy", next(iter(targets), "")):
            self._backend.copy(targets)

    def download_folder(self, prefix: str, folder: Path) -> None:
        """Copy the files below the folder `prefix` to a local folder. Raises MissingError where there is no file."""
        start = prefix.rstrip("/") + "/"
        paths = self.list(prefix)
        if not paths:
            raise MissingError(f"{self.place(prefix)}: nothing is stored there; check the name")
        for path in paths:
            self.download(path, folder / path.removeprefix(start))

    def download(self, path: str, target: Path) -> None:
        """Copy a file to a local path, whose folder is made. Raises MissingError where there is no file."""
        with self._translated_faults("copy", path):
            target.parent.mkdir(parents=True, exist_ok=True)
            self._backend.download(path, target)

    def upload_folder(self, folder: Path, prefix: str) -> Paths:
        """Copy the files of a local folder to below `prefix`, sorted by path; returns the paths in the store."""
        paths = []
        for source in sorted(folder.rglob("*")):
            if not source.is_file():
                continue
            path = f"{prefix.rstrip('/')}/{source.relative_to(folder).as_posix()}"
            self.upload(source, path)
            paths.append(path)
        return paths

    def upload(self, source: Path, path: str) -> None:
        """Copy a local file to the store."""
        with self._translated_faults("write", path):
            self._backend.upload(source, path)

    def read_table(self, path: str, columns: Sequence[str] | None = None) -> "pa.Table":
        """A Parquet file as an Arrow table. With `columns`, only these columns are read from the store."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            if columns is None:
                return pq.ParquetFile(io.BytesIO(self.read(path))).read()
            with self.open(path) as file:
                return pq.ParquetFile(file).read(columns=list(columns))
        except pa.ArrowInvalid as error:
            raise StoreError(
                f"{self.place(path)}: not a whole Parquet file ({error}); remove it and run again"
            ) from error

    def write_table(self, path: str, table: "pa.Table", *, rows_per_group: int | None = None) -> str:
        """Write a table as Parquet; returns the sha256 of its bytes, 64 hex digits. See `table_bytes`."""
        data = table_bytes(table, rows_per_group=rows_per_group)
        self.write(path, data)
        return hashlib.sha256(data).hexdigest()

    @contextlib.contextmanager
    def _translated_faults(self, verb: str, path: str) -> Iterator[None]:
        """Raise the backend's faults as StoreError, with the place, the cause and the remedy."""
        place = self._backend.place(_check_path(path))
        try:
            yield
        except FileNotFoundError as error:
            raise MissingError(f"{place}: nothing is stored there; check the name and the recipe's store") from error
        except self._backend.faults as error:
            message = getattr(error, "strerror", None) or str(error) or type(error).__name__
            cause = without_user(message)
            raise StoreError(f"{place}: cannot {verb} ({cause}); {self._remedy(error)}") from error

    def _remedy(self, error: Exception) -> str:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT):
            return "free some space, or set the recipe's store to another place, and run again to resume"
        if number == errno.ETIME:
            return "set the clock of this machine, or of the server, and run again to resume"
        if number == errno.ENXIO:
            return "make the bucket, or correct the recipe's store"
        if isinstance(error, PermissionError) or "redentials" in type(error).__name__:
            return self._backend.access_remedy
        if self._backend.local_path("") is None:
            return "check the network and AWS_ENDPOINT_URL, and run again to resume"
        return "check the disk and the path, and run again to resume"


def open_store(url: str) -> Store:
    """The store at a folder's path, a file:// URL or any fsspec URL such as s3://bucket/prefix.

    Nothing is read or created before the first use. Raises StoreError for a URL that cannot be a store's, or that
    contains a password; the message does not repeat the password.
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
    _check_path(rest.strip("/"))
    from infra.store.objects import ObjectStore

    try:
        return Store(ObjectStore(protocol, rest))
    except (ValueError, ImportError) as error:
        raise StoreError(
            f"{protocol}://: no such kind of store ({error}); use a folder or s3://bucket/prefix"
        ) from error


def table_bytes(
    table: "pa.Table", *, rows_per_group: int | None = None, dictionary: bool | Sequence[str] = True
) -> bytes:
    """A table as Parquet: zstd level 3, dictionaries of up to 256 MiB; equal tables give equal bytes.

    `rows_per_group`: rows of a row group, the least that a reader of one row must read. `dictionary`: the columns
    whose values repeat; True for all.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(
        table.combine_chunks(),  # chunks would change the bytes
        sink,
        row_group_size=rows_per_group,
        compression="zstd",
        compression_level=3,
        use_dictionary=dictionary if isinstance(dictionary, bool) else list(dictionary),
        dictionary_pagesize_limit=_DICTIONARY_BYTES,
        write_page_checksum=True,
    )
    return bytes(sink.getvalue().to_pybytes())


def _check_path(path: str) -> str:
    """Returns the path. Raises StoreError for one that could leave the store, or that listings would not return."""
    if path and (_UNSAFE.search(path) or any(part in ("", ".", "..") for part in path.split("/"))):
        raise StoreError(
            f"{path!r} is not a path in a store: use names separated by '/', without '..', backslashes, "
            "control characters or a leading '/'"
        )
    return path
