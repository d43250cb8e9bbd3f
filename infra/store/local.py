"""The store in a folder of this machine or of a shared file system.

A file is written under a hidden temporary name in the same folder, synced, and renamed in one step, so a reader sees
all of it or nothing. A kill leaves at most a hidden `.part` file, which no listing contains.
Leaves out: file locks, and file systems without rename.
"""

import contextlib
import logging
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

_log = logging.getLogger(__name__)

_TEMPORARY_SUFFIX = ".part"


class LocalFolder:
    """A store's backend over a folder. Raises OSError; `Store` adds the place and the remedy."""

    faults: tuple[type[Exception], ...] = (OSError,)
    access_remedy = "check the permissions of the folder"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = root.as_uri()
        self._warned = False

    def place(self, path: str) -> str:
        """The absolute path: what a person would paste."""
        return str(self.root / path)

    def local_path(self, path: str) -> Path | None:
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
        with _temporary_file(target) as temporary:
            _write_synced(temporary, data)
            temporary.replace(target)
            _sync_folder(target.parent)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Write the file unless it exists. True for exactly one of many processes that try."""
        target = self.root / path
        with _temporary_file(target) as temporary:
            _write_synced(temporary, data)
            try:
                os.link(temporary, target)  # unlike a rename it fails when the name exists
            except FileExistsError:
                return False
            except OSError:  # no hard links here
                if target.exists():
                    return False
                self._warn_once()
                temporary.replace(target)
            _sync_folder(target.parent)
        return True

    def has_one_winner(self) -> bool:
        """Whether the file system has hard links, as far as `put_if_absent` has seen."""
        return not self._warned

    def exists(self, path: str) -> bool:
        """Whether there is a file of this name. Raises OSError when that cannot be found out."""
        try:
            (self.root / path).stat()  # is_file alone would answer False to some faults
        except (FileNotFoundError, NotADirectoryError):
            return False
        return (self.root / path).is_file()

    def size(self, path: str) -> int:
        """Bytes."""
        return (self.root / path).stat().st_size

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes by path of every file below a folder. Raises OSError for a folder that cannot be read."""
        sizes = {}
        for path, size in _files_below(self.root / prefix):
            sizes[os.path.relpath(path, self.root)] = size
        return sizes

    def children(self, folder: str) -> tuple[list[str], list[str]]:
        """Paths of the files and of the folders in a folder. Raises OSError for one that cannot be read."""
        files: list[str] = []
        folders: list[str] = []
        try:
            entries = list(os.scandir(self.root / folder))
        except FileNotFoundError:
            return files, folders
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir():
                folders.append(path)
            elif not _is_temporary(entry.name):
                files.append(path)
        return files, folders

    def written(self, prefix: str) -> dict[str, tuple[int, float]]:
        """Bytes and time of writing (seconds of the epoch) of a file, or of every file below a folder.

        Those of killed writes are among them.
        """
        if (self.root / prefix).is_file():
            state = (self.root / prefix).stat()
            return {prefix: (state.st_size, state.st_mtime)}
        written = {}
        for path, size, time in _entries_below(self.root / prefix):
            written[os.path.relpath(path, self.root)] = size, time
        return written

    def delete(self, *paths: str) -> None:
        """Remove files; a file that is already gone is no error."""
        for path in paths:
            (self.root / path).unlink(missing_ok=True)

    def move(self, source: str, target: str) -> None:
        """Rename in one step."""
        (self.root / target).parent.mkdir(parents=True, exist_ok=True)
        (self.root / source).replace(self.root / target)

    def copy(self, targets: Mapping[str, str]) -> None:
        """Hard links, or copies where the file system has none; each folder is synced once, at the end."""
        folders: dict[Path, None] = {}  # an ordered set
        for source, name in targets.items():
            target = self.root / name
            if target.parent not in folders:
                target.parent.mkdir(parents=True, exist_ok=True)
                folders[target.parent] = None
            try:
                os.link(self.root / source, target)
            except FileExistsError:
                continue
            except FileNotFoundError:
                raise
            except OSError:  # no hard links here
                self.write(name, self.read(source))
        for folder in folders:
            _sync_folder(folder)

    def download(self, path: str, target: Path) -> None:
        """Copy a file out of the store."""
        shutil.copyfile(self.root / path, target)

    def upload(self, source: Path, path: str) -> None:
        """Copy a file into the store; readers see all of it or nothing."""
        target = self.root / path
        with _temporary_file(target) as temporary:
            shutil.copyfile(source, temporary)
            temporary.replace(target)

    def _warn_once(self) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "%s: this file system has no hard links, so of two processes that publish at the same moment "
                "both may win; publish from one process at a time",
                self.root,
            )


@contextlib.contextmanager
def _temporary_file(target: Path) -> Iterator[Path]:
    """A hidden name beside `target`, removed at the end unless it was renamed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # a name of its own: the target's name may already be as long as the file system allows
    temporary = target.with_name(f".{uuid.uuid4().hex}{_TEMPORARY_SUFFIX}")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a new name survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files_below(folder: Path) -> Iterator[tuple[str, int]]:
    """Path and bytes of every file but those of killed writes."""
    for path, size, _ in _entries_below(folder):
        if not _is_temporary(path.rpartition("/")[2]):
            yield path, size


def _entries_below(folder: Path) -> Iterator[tuple[str, int, float]]:
    """Path, bytes and time of every file. os.walk would skip a folder that cannot be read, as if it were empty."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir():
            yield from _entries_below(Path(entry.path))
            continue
        with contextlib.suppress(FileNotFoundError):  # removed since the folder was listed
            status = entry.stat()
            yield entry.path, status.st_size, status.st_mtime


def _is_temporary(name: str) -> bool:
    """Whether a file is one that a write has not finished."""
    return name.startswith(".") and name.endswith(_TEMPORARY_SUFFIX)
