"""Ranges of a source that other machines build: what they need and what they have built lies in a folder of the store.

The folder has the files that the processes of one machine share (workers.py), and a file for each range that was built;
whoever planned removes it. Leaves out: which machines, and what becomes of a range that none has built
(flows/planning.py).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.errors import InputError
from infra.recipe import Questions, Recipe
from infra.running.line_processes import json_line
from infra.store import Store
from infra.store.sources import file_system
from tasks.planning.built_range import BuiltRange
from tasks.planning.wire import built_range_from_json
from tasks.planning.workers import planning_workers
from tasks.questions.ranges import RowRange

FOLDER = "planning"  # in the store
_CODEC = "zstd"


def hand_over(store: Store, folder: str, files: Mapping[str, Path]) -> None:
    """Write what other machines need to build ranges."""
    for name, file in files.items():
        store.upload(file, f"{folder}/{name}")


def source_sizes(ranges: Sequence[RowRange]) -> dict[str, int]:
    """The bytes of each file that ranges are in, by its URL."""
    sizes = {}
    for url in dict.fromkeys(rows.url for rows in ranges):
        filesystem, path = file_system(url)
        sizes[url] = int(filesystem.size(path))
    return sizes


def build_elsewhere(
    store: Store,
    folder: str,
    recipe: Recipe,
    questions: Questions,
    ranges: Mapping[int, RowRange],
    sizes: Mapping[str, int],
) -> None:
    """Build ranges, by their numbers, with all cores of this machine, and write each into the folder.

    Raises InputError where this machine does not have the files of the source as they were: `sizes` are their bytes.
    """
    for url, size in sizes.items():
        _check_size(url, size)
    with planning_workers(recipe, questions) as workers:
        for name, file in workers.files.items():
            store.download(f"{folder}/{name}", file)
        workers.start_processes()
        for number, built in workers.build_as_json(ranges.items()):
            store.write(_path(folder, number), _packed(built))


def take_built(store: Store, folder: str, number: int) -> BuiltRange:
    """A range that was built elsewhere. Raises MissingError where it was not."""
    return built_range_from_json(_unpacked(store.read(_path(folder, number))))


def discard(store: Store, folder: str, numbers: Sequence[int]) -> None:
    """Remove what was built of these ranges."""
    store.delete(*(_path(folder, number) for number in numbers))


def discard_folder(store: Store, folder: str) -> None:
    """Remove the whole folder."""
    store.delete(*store.list(f"{folder}/"))


def _check_size(url: str, size: int) -> None:
    filesystem, path = file_system(url)
    try:
        there = int(filesystem.size(path))
    except OSError as error:
        raise InputError(
            f"{url}: this worker cannot read it ({error}); give questions.source as a URL that all workers reach"
        ) from error
    if there != size:
        raise InputError(f"{url}: it has {there:,} bytes here and {size:,} where the plan is made")


def _path(folder: str, number: int) -> str:
    return f"{folder}/ranges/{number:06d}.json.{_CODEC}"


def _packed(value: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, _CODEC) as stream:
        stream.write(json_line(value))
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def _unpacked(data: bytes) -> Any:
    with pa.CompressedInputStream(pa.BufferReader(data), _CODEC) as stream:
        return json.loads(stream.read())
