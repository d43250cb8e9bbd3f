"""The encoded rows on disk: an Arrow stream that `datasets` maps into memory, written row by row."""

from pathlib import Path
from types import TracebackType

import pyarrow as pa

from tasks.training.gate import EncodedRow

_IDS = pa.list_(pa.int32())
SCHEMA = pa.schema(
    [pa.field("prompt_ids", _IDS, False), pa.field("chosen_ids", _IDS, False), pa.field("rejected_ids", _IDS, False)]
)
_BATCH = 64


class PairsFile:
    """Takes encoded rows until it is closed; the file has its name only when all are in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_suffix(".part")
        self._rows: list[EncodedRow] = []

    def __enter__(self) -> "PairsFile":
        self._sink = pa.OSFile(str(self._part), "wb")
        self._writer = pa.ipc.new_stream(self._sink, SCHEMA)
        return self

    def add(self, row: EncodedRow) -> None:
        """Keep one more row."""
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
