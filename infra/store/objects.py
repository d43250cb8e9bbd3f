"""The store in an S3 bucket, through s3fs, or in any other fsspec file system.

An object is written by one PUT, so a reader sees all of it or nothing. `put_if_absent` is a conditional PUT
(`If-None-Match: *`). Some servers accept the condition and ignore it: the first call finds that out with a
probe object. Where it is ignored, the store checks first and then writes, and logs a warning, because two
processes that publish at the same moment may then both win. AWS_ENDPOINT_URL and the other settings of the
AWS command line apply. Listings are not cached, so that the writes of other workers are seen.
Retries after network faults are the client's own (botocore's standard mode, and s3fs's); a server that is away for
longer is waited for (patience.py).
Leaves out: versions of objects, and folder markers.
"""

import contextlib
import errno
import logging
import threading
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from infra.store.patience import Patience

_log = logging.getLogger(__name__)

_WRITER_KEY = "longmill-writer"  # of an object's metadata: which call of put_if_absent wrote it
_THREADS = 48  # that delete or copy objects at once
_MAX_CONNECTIONS = 64
_CREATE_ATTEMPTS = 5
_AWAY_STATUSES = (500, 502, 503, 504)


class ObjectStore:
    """A store's backend over fsspec. Raises OSError and the client's own errors, listed in `faults`."""

    access_remedy = (
        "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_PROFILE, and what they may do with this bucket"
    )

    def __init__(self, protocol: str, root: str) -> None:
        self.protocol = protocol
        self.root = root.strip("/")
        self.url = f"{protocol}://{self.root}"
        self.filesystem = _connect(protocol)
        self.faults = _client_faults(protocol)
        # s3fs reads large objects in ranges, and fills a range that arrives short with zeros; one request fails instead
        self._one_request = {"max_concurrency": 1} if protocol == "s3" else {}
        self._conditional: bool | None = None  # whether the server keeps the condition; None before the probe
        self._probe_lock = threading.Lock()
        self._ask = Patience(self.url, lambda error: _is_away(error, protocol)).ask

    def key(self, path: str) -> str:
        """bucket/prefix/path, as `filesystem` takes it."""
        return f"{self.root}/{path}" if path else self.root

    def place(self, path: str) -> str:
        """The URL: what a person would paste."""
        return f"{self.protocol}://{self.key(path)}"

    def local_path(self, path: str) -> Path | None:
        """None: an object has no path on this machine."""
        return None

    def read(self, path: str) -> bytes:
        """The whole object."""
        with _bucket_must_exist():
            return bytes(self._ask(lambda: self.filesystem.cat_file(self.key(path), **self._one_request)))

    def open(self, path: str) -> BinaryIO:
        """The object, open for reading at any position; each read is one ranged request."""
        with _bucket_must_exist():
            handle: BinaryIO = self._ask(lambda: self.filesystem.open(self.key(path), "rb", cache_type="none"))
        return handle

    def write(self, path: str, data: bytes) -> None:
        """Write or replace the object in one step."""
        with _bucket_must_exist():
            self._ask(lambda: self.filesystem.pipe_file(self.key(path), data))

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Write the object unless it exists. True for one of many writers, where the server keeps the condition."""
        with _bucket_must_exist():
            if self._keeps_conditions():
                return self._create(path, data)
            if self.exists(path):
                return False
            self._ask(lambda: self.filesystem.pipe_file(self.key(path), data))
            return True

    def has_one_winner(self) -> bool:
        """Whether the server keeps conditions."""
        with _bucket_must_exist():
            return self._keeps_conditions()

    def exists(self, path: str) -> bool:
        """Whether there is an object of this name."""
        with _bucket_must_exist():
            try:
                return bool(self._ask(lambda: self.filesystem.info(self.key(path)))["type"] == "file")
            except FileNotFoundError as error:
                if _code(error) == "NoSuchBucket":
                    raise
                return False

    def size(self, path: str) -> int:
        """Bytes."""
        with _bucket_must_exist():
            return int(self._ask(lambda: self.filesystem.info(self.key(path)))["size"])

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes by path of every object below a folder."""
        return {path: int(info["size"]) for path, info in self._objects(prefix).items()}

    def _objects(self, prefix: str) -> dict[str, dict[str, Any]]:
        """What the server says of an object, or of every object below a folder, by path."""
        with _bucket_must_exist():
            try:
                objects = self._ask(lambda: self.filesystem.find(self.key(prefix), withdirs=False, detail=True))
            except FileNotFoundError as error:
                if _code(error) == "NoSuchBucket":
                    raise
                return {}
        folder = self.key(prefix).rstrip("/") + "/"
        infos: dict[str, dict[str, Any]] = {}
        for name, info in objects.items():
            if name == self.key(prefix) or (name.startswith(folder) and not name.endswith("/")):
                infos[name.removeprefix(f"{self.root}/")] = info
        return infos

    def written(self, prefix: str) -> dict[str, tuple[int, float]]:
        """Bytes and time of writing (seconds of the epoch, by the server) of an object, or of all below a folder."""
        written = {}
        for path, info in self._objects(prefix).items():
            time = info.get("LastModified") or info.get("updated") or info.get("mtime")
            if time is None:
                raise OSError(errno.ENOTSUP, f"{self.protocol} does not say when an object was written")
            written[path] = int(info["size"]), time.timestamp() if isinstance(time, datetime) else float(time)
        return written

    def children(self, folder: str) -> tuple[list[str], list[str]]:
        """Paths of the objects and of the folders in a folder; the server leaves out what is below these."""
        files: list[str] = []
        folders: list[str] = []
        with _bucket_must_exist():
            try:
                entries = self._ask(lambda: self.filesystem.ls(self.key(folder), detail=True))
            except FileNotFoundError as error:
                if _code(error) == "NoSuchBucket":
                    raise
                return files, folders
        for entry in entries:
            name = entry["name"].strip("/")
            if name.startswith(f"{self.key(folder)}/"):
                kind = folders if entry["type"] == "directory" else files
                kind.append(name.removeprefix(f"{self.root}/"))
        return files, folders

    def delete(self, *paths: str) -> None:
        """Remove objects, several at a time; an object that is already gone is no error."""

        def remove(path: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                self._ask(lambda: self.filesystem.rm_file(self.key(path)))

        if len(paths) == 1:
            remove(paths[0])
        elif paths:
            with ThreadPoolExecutor(_THREADS) as pool:
                list(pool.map(remove, paths))

    def move(self, source: str, target: str) -> None:
        """Copy, then remove the source."""
        with _bucket_must_exist():
            self._ask(lambda: self.filesystem.cp_file(self.key(source), self.key(target)))
            self.delete(source)

    def copy(self, targets: Mapping[str, str]) -> None:
        """Copies that the server makes, several at a time; on S3 of objects of at most 5 GB, with one request each."""

        def copy_one(names: tuple[str, str]) -> None:
            source, target = map(self.key, names)
            if self.protocol != "s3":
                self._ask(lambda: self.filesystem.cp_file(source, target))
                return
            bucket, _, key = target.partition("/")
            source_bucket, _, source_key = source.partition("/")
            copied = {"Bucket": source_bucket, "Key": source_key}
            self._ask(lambda: self.filesystem.call_s3("copy_object", Bucket=bucket, Key=key, CopySource=copied))

        with _bucket_must_exist(), ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(copy_one, targets.items()))

    def download(self, path: str, target: Path) -> None:
        """Copy an object out of the store."""
        with _bucket_must_exist():
            self._ask(lambda: self.filesystem.get_file(self.key(path), str(target)))

    def upload(self, source: Path, path: str) -> None:
        """Copy a file into the store; a large one is sent in parts and appears when the last one has arrived."""
        with _bucket_must_exist():
            self._ask(lambda: self.filesystem.put_file(str(source), self.key(path)))

    def _create(self, path: str, data: bytes) -> bool:
        """A conditional PUT.

        When the answer of a PUT is lost, the client's retry finds our own object there: its metadata shows that.
        """
        writer = uuid.uuid4().hex

        def create() -> None:
            self.filesystem.pipe_file(self.key(path), data, mode="create", **self._metadata(writer))

        for _ in range(_CREATE_ATTEMPTS):
            try:
                self._ask(create)
            except (FileExistsError, OSError) as error:
                status = _status(error)
                if status == 409 and not self.exists(path):  # another write of this name was under way
                    continue
                if isinstance(error, FileExistsError) or status in (409, 412):
                    return self._was_written_by(path, writer)
                raise
            return True
        raise OSError(errno.EBUSY, "other writers of this name kept getting in the way")

    def _metadata(self, writer: str) -> dict[str, Any]:
        return {"Metadata": {_WRITER_KEY: writer}} if self.protocol == "s3" else {}

    def _was_written_by(self, path: str, writer: str) -> bool:
        if self.protocol != "s3":
            return False
        return bool(self._ask(lambda: self.filesystem.metadata(self.key(path))).get(_WRITER_KEY) == writer)

    def _keeps_conditions(self) -> bool:
        """Whether the server keeps `If-None-Match: *`; tried once, with an object that is removed again."""
        with self._probe_lock:
            if self._conditional is None:
                path = f".probe/{uuid.uuid4().hex}"
                try:
                    self._conditional = self._create(path, b"1") and not self._create(path, b"2")
                finally:
                    with contextlib.suppress(*self.faults):
                        self.delete(path)
                if not self._conditional:
                    _log.warning(
                        "%s: the server ignores conditional writes (If-None-Match), so of two processes that "
                        "publish at the same moment both may win; publish from one process at a time",
                        self.url,
                    )
            return self._conditional


def _connect(protocol: str) -> Any:
    import fsspec

    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if protocol == "s3":
        options["config_kwargs"] = {
            "connect_timeout": 10,
            "read_timeout": 60,
            "max_pool_connections": _MAX_CONNECTIONS,
            "retries": {"mode": "standard", "max_attempts": 4},
        }
    return fsspec.filesystem(protocol, **options)


def _client_faults(protocol: str) -> tuple[type[Exception], ...]:
    if protocol != "s3":
        return (OSError,)
    from aiohttp import ClientError as NetworkError
    from botocore.exceptions import BotoCoreError, ClientError

    return (OSError, BotoCoreError, ClientError, NetworkError)


def _is_away(error: BaseException, protocol: str) -> bool:
    """Whether the server could not be reached, went away in the middle, or cannot do the request now."""
    if isinstance(error, ConnectionError | TimeoutError) or _status(error) in _AWAY_STATUSES:
        return True
    if protocol != "s3":
        return False
    from aiohttp import ClientError as NetworkError
    from botocore.exceptions import EndpointConnectionError, HTTPClientError, SSLError

    return isinstance(error, NetworkError | EndpointConnectionError | HTTPClientError) and not isinstance(
        error, SSLError
    )


@contextlib.contextmanager
def _bucket_must_exist() -> Iterator[None]:
    """A bucket that is not there must not look like an empty one, nor a wrong clock like a wrong key."""
    try:
        yield
    except FileNotFoundError as error:
        if _code(error) == "NoSuchBucket":
            raise OSError(errno.ENXIO, "the bucket does not exist") from error
        raise
    except OSError as error:
        if _code(error) == "RequestTimeTooSkewed":
            raise OSError(errno.ETIME, f"{error}; this machine's clock says {datetime.now(UTC):%F %T} UTC") from error
        raise


def _response(error: BaseException) -> dict[str, Any]:
    """The S3 response behind an error that s3fs translated; {} where there is none."""
    cause: BaseException | None = error
    while cause is not None:
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            return response
        cause = cause.__cause__
    return {}


def _code(error: BaseException) -> str | None:
    code = _response(error).get("Error", {}).get("Code")
    return str(code) if code else None


def _status(error: BaseException) -> int | None:
    status = _response(error).get("ResponseMetadata", {}).get("HTTPStatusCode")
    return int(status) if status else None
