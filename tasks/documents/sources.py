"""The files of a source: a folder with all that is below it, a pattern, one file; or a dataset whose rows are read."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from infra.errors import InputError, UnreadableError
from infra.recipe import Documents
from infra.store.sources import file_faults, file_system
from tasks.documents.document import Parsed, SourceFile
from tasks.documents.row_documents import row_document
from tasks.questions.rows import HUB_NAME, SAVED, read_rows

_PATTERN = "*?["


def source_files(settings: Documents) -> list[SourceFile] | None:
    """The files in the order of their names; None for a folder of `save_to_disk` and for a hub name.

    Raises InputError for a source that is not there, cannot be reached, or has no file.
    """
    source = settings.source
    filesystem, path = file_system(source)
    try:
        if filesystem.isdir(path):
            if any(filesystem.exists(f"{path}/{name}") for name in SAVED):
                return None
            root, paths = path, list(filesystem.find(path))
        elif filesystem.exists(path):  # before patterns: a name may have brackets in it
            root, paths = str(PurePosixPath(path).parent), [path]
        elif any(sign in path for sign in _PATTERN):
            root, paths = _root_of_pattern(path), _files_of_pattern(filesystem, path)
        elif "://" not in source and HUB_NAME.fullmatch(source):
            return None
        else:
            raise InputError(f"{source}: there is no such file or folder; check the name and the folder")
    except file_faults(filesystem) as error:
        raise InputError(f"{source}: cannot be reached ({error}); check the address and the credentials") from error
    files = []
    for file_path in sorted(paths):
        name = file_path.removeprefix(root.rstrip("/")).lstrip("/")
        if not any(part.startswith(".") for part in name.split("/")):
            files.append(SourceFile(filesystem.unstrip_protocol(file_path), name))
    if not files:
        raise InputError(f"{source}: holds no files; check the folder or the pattern")
    return files


def source_rows(settings: Documents) -> Iterator[Parsed | UnreadableError]:
    """The documents of a dataset that is no folder of files. Raises InputError when it cannot be read."""
    for row in read_rows(settings.source, settings.subset, settings.split):
        yield row_document(row, settings)


def _files_of_pattern(filesystem: Any, pattern: str) -> list[str]:
    return [path for path in filesystem.glob(pattern) if not filesystem.isdir(path)]


def _root_of_pattern(pattern: str) -> str:
    """The folder before the first part with a sign of a pattern."""
    parts: list[str] = []
    for part in pattern.split("/"):
        if any(sign in part for sign in _PATTERN):
            break
        parts.append(part)
    return "/".join(parts)
