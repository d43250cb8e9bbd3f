"""Key files: which segment has a key, for many segments in one sorted file, so that a process need not read them all.

`ledger-keys/SHA256.keys` lists the segments that it covers and, sorted, the first 8 bytes of each of their keys with
the number of its segment: 12 bytes a call. It is mapped into memory and not read: on a folder where it lies, elsewhere
from a copy that the processes of a machine share. Its bytes are checked against its name when it is opened; a damaged
file is passed over, since the segments have all that it has. A segment that was merged since is ignored, one that is
newer than the file is read by itself; the ledger writes another file when these have become many.
Two keys share 8 bytes once in 2^64: a segment is read to find an entry, and then the whole key is compared.
"""

import hashlib
import json
import logging
import mmap
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from infra.errors import LedgerError, MissingError, StoreError
from infra.ledger.segment import Digests, SegmentInfo
from infra.store import Store

FOLDER = "ledger-keys"

Prefixes = npt.NDArray[np.uint64]  # the first 8 bytes of keys, big end first, as numbers
Numbers = npt.NDArray[np.int32]  # of segments, in the order of a file

_log = logging.getLogger(__name__)
_MAGIC = b"LMKEYS1\n"
_ALIGNED = 8
_OLD_S = 7 * 86_400  # after which a machine's copy is removed


@dataclass(frozen=True, slots=True)
class KeyFile:
    """An open key file. `prefixes` are sorted; `numbers` are the segments of their rows, as in `segments`."""

    path: str  # in the store
    segments: tuple[SegmentInfo, ...]
    prefixes: Prefixes
    numbers: Numbers


def prefixes_of(digests: Digests) -> Prefixes:
    """The first 8 bytes of keys as numbers, in the same order."""
    whole = np.frombuffer(digests.tobytes(), dtype=">u8")
    return whole[::4].astype(np.uint64)


def write_key_file(store: Store, segments: Sequence[SegmentInfo], prefixes: Prefixes, numbers: Numbers) -> str:
    """Write a file over segments, of rows in any order; equal arguments give equal bytes. Raises LedgerError."""
    order = np.lexsort((numbers, prefixes))
    header = json.dumps([asdict(segment) for segment in segments]).encode()
    header += b" " * (-len(header) % _ALIGNED)
    parts = (
        _MAGIC,
        len(header).to_bytes(8, "little"),
        header,
        prefixes[order].astype("<u8").tobytes(),
        numbers[order].astype("<i4").tobytes(),
    )
    data = b"".join(parts)
    path = f"{FOLDER}/{hashlib.sha256(data).hexdigest()}.keys"
    try:
        store.write(path, data)
    except StoreError as error:
        raise LedgerError(f"the ledger's keys cannot be written, which loses nothing: {error}") from error
    return path


def key_file_paths(store: Store) -> list[str]:
    """The key files of a store. Raises LedgerError."""
    try:
        return [path for path in store.list(FOLDER) if path.endswith(".keys")]
    except StoreError as error:
        raise LedgerError(f"the ledger's keys cannot be listed: {error}") from error


def open_key_file(store: Store, path: str) -> KeyFile | None:
    """Map a key file into memory; None when it is gone or damaged: the segments have all that it has."""
    try:
        place = store.local_path(path) or _copy(store, path)
        with place.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _parse(path, data)
    except (MissingError, FileNotFoundError):
        return None
    except (OSError, ValueError, KeyError, TypeError, StoreError) as error:
        _log.warning("%s is passed over, and the segments are read instead: %s", store.place(path), error)
        return None


def _parse(path: str, data: mmap.mmap) -> KeyFile:
    if hashlib.sha256(data).hexdigest() != _name_of(path):
        raise ValueError("its bytes do not fit its name")
    if data[: len(_MAGIC)] != _MAGIC:
        raise ValueError("it is no key file of this version")
    start = len(_MAGIC) + 8
    header_bytes = int.from_bytes(data[len(_MAGIC) : start], "little")
    segments = tuple(SegmentInfo(**values) for values in json.loads(data[start : start + header_bytes]))
    start += header_bytes
    rows = (len(data) - start) // 12
    prefixes = np.frombuffer(data, dtype="<u8", count=rows, offset=start)
    numbers = np.frombuffer(data, dtype="<i4", count=rows, offset=start + 8 * rows)
    return KeyFile(path, segments, prefixes, numbers)


def _copy(store: Store, path: str) -> Path:
    """The copy of a key file that the processes of this machine share."""
    folder = Path(tempfile.gettempdir()) / f"longmill-{os.getuid()}" / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = folder / f"{_name_of(path)}.keys"
    if not place.exists():
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as draft:
            draft.write(store.read(path))
        Path(draft.name).replace(place)
        for other in folder.iterdir():
            if time.time() - other.stat().st_mtime > _OLD_S:
                other.unlink(missing_ok=True)
    return place


def _name_of(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".keys")
