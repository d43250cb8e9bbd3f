"""The encoded questions on disk: an Arrow stream that `datasets` maps into memory, written row by row.

A row is a tree: the prompt's token ids, each distinct answer's, and the pairs of them by place (chosen, rejected).
"""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from tasks.training.gate import EncodedTree
from tasks.training.shared_prefix.layout import Tree

_IDS = pa.list_(pa.int32())
SCHEMA = pa.schema(
    [
        pa.field("prompt_ids", _IDS, False),
        pa.field("answers", pa.list_(_IDS), False),
        pa.field("pairs", pa.list_(_IDS), False),
    ]
)
_BATCH = 64


class PairsFile:
    """Takes encoded questions until it is closed; the file has its name only when all are in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_suffix(".part")
        self._rows: list[EncodedTree] = []

    def __enter__(self) -> "PairsFile":
        self._sink = pa.OSFile(str(self._part), "wb")
        self._writer = pa.ipc.new_stream(self._sink, SCHEMA)
        return self

    def add(self, row: EncodedTree) -> None:
        """Keep one more question."""
        self._rows.append(row)
        if len(self._rows) == _BATCH:
            self._flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
        self._writer.close()
        self._sink.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink()

    def _flush(self) -> None:
        if self._rows:
            columns = {name: [getattr(row, name) for row in self._rows] for name in SCHEMA.names}
            self._writer.write_batch(pa.RecordBatch.from_pydict(columns, schema=SCHEMA))
            self._rows.clear()


def trees(dataset: Any) -> Sequence[Tree]:
    """The lengths of every question of a `datasets` dataset of encoded rows, without reading their tokens."""
    import pyarrow.compute as pc

    prompts = pc.list_value_length(dataset.data.column("prompt_ids")).to_pylist()
    sizes = pc.list_value_length(dataset.data.column("answers")).to_pylist()
    lengths = iter(pc.list_value_length(pc.list_flatten(dataset.data.column("answers"))).to_pylist())
    return [
        Tree(prompt, tuple(next(lengths) for _ in range(size))) for prompt, size in zip(prompts, sizes, strict=True)
    ]
