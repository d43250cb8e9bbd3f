"""The store in a folder of this machine or of a shared file system.

A write goes to a hidden file in the same folder, is synced, and takes its name in one step, so a reader sees
all of it or nothing; a kill leaves at most a hidden `.part` file, which no listing shows. Leaves out: file
locks, and file systems without rename.
"""

import contextlib
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_log = logging.getLogger(__name__)

PART = ".part"


class LocalFolder:
    """The verbs of a store over a folder. Raises OSError; `infra.store.Store` gives it a name and a remedy."""

    faults: tuple[type[Exception], ...] = (OSError,)
    access_remedy = "check the permissions of the folder"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = root.as_uri()
        self._warned = False

    @property
    def filesystem(self) -> Any:
        """fsspec's local file system."""
        import fsspec

        return fsspec.filesystem("file")

    def full(self, path: str) -> str:
        """The absolute path."""
        return str(self.root / path)

    def show(self, path: str) -> str:
        """The absolute path: what a person would paste."""
        return self.full(path)

    def local(self, path: str) -> Path | None:
        """The absolute path."""
        return self.root / path

    def read(self, path: str) -> bytes:
        """The whole file."""
        return (self.root / path).read_bytes()

    def open(self, path: str) -> BinaryIO:
        """The file, open for reading at any position."""
        return (self.root / path).open("rb")

    def write(self, path: str, data: bytes) -> None:
        """Write or replace the file in one step."""
        target = self.root / path
        with _part_beside(target) as part:
            _write_synced(part, data)
            part.replace(target)
            _sync_folder(target.parent)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Write the file unless it exists; of many processes that try, exactly one gets True."""
        target = self.root / path
        with _part_beside(target) as part:
            _write_synced(part, data)
            try:
                os.link(part, target)  # fails when the name is taken, unlike a rename
            except FileExistsError:
                return False
            except OSError:
                if target.exists():
                    return False
                self._warn_once()
                part.replace(target)
            _sync_folder(target.parent)
        return True

    def exists(self, path: str) -> bool:
        """Whether a file stands there."""
        try:
            (self.root / path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return (self.root / path).is_file()

    def size(self, path: str) -> int:
        """Bytes."""
        return (self.root / path).stat().st_size

    def sizes(self, prefix: str) -> dict[str, int]:
        """Every file below a folder with its bytes. A folder that cannot be read is an error."""
        return {os.path.relpath(path, self.root): size for path, size in _files_below(self.root / prefix)}

    def delete(self, *paths: str) -> None:
        """Remove files; those already gone are fine."""
        for path in paths:
            (self.root / path).unlink(missing_ok=True)

    def move(self, source: str, target: str) -> None:
        """Rename in one step."""
        (self.root / target).parent.mkdir(parents=True, exist_ok=True)
        (self.root / source).replace(self.root / target)

    def download(self, path: str, target: Path) -> None:
        """Copy a file out."""
        shutil.copyfile(self.root / path, target)

    def upload(self, source: Path, path: str) -> None:
        """Copy a file in; readers see all of it or nothing."""
        target = self.root / path
        with _part_beside(target) as part:
            shutil.copyfile(source, part)
            part.replace(target)

    def _warn_once(self) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "%s: this file system has no hard links, so of two processes that publish at the same moment "
                "both may win; publish from one process at a time",
                self.root,
            )


@contextlib.contextmanager
def _part_beside(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{uuid.uuid4().hex}{PART}")  # not the target's name, which may be as long as allowed
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _write_synced(part: Path, data: bytes) -> None:
    with part.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a new name survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _files_below(folder: Path) -> Iterator[tuple[str, int]]:
    """os.walk would pass over what it may not read; a fault must not look like an empty store."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir():
            yield from _files_below(Path(entry.path))
        elif not (entry.name.startswith(".") and entry.name.endswith(PART)):
            with contextlib.suppress(FileNotFoundError):  # removed since the folder was read
                yield entry.path, entry.stat().st_size
