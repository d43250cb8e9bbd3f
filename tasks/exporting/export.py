"""Writing an export: rows by split, the small files of the shape, and `export.json` last, which says what is there."""

import hashlib
import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import BalanceError, InputError
from infra.models.tool_calls import json_text
from infra.running import progress
from infra.store import open_store
from tasks.exporting.shape import Converted, ExportedSplits, Shape, calls_tools
from tasks.records.dataset import TOOLS
from tasks.records.product import PAIRS, product_of_counts
from tasks.records.reader import SPLITS, PublishedDataset
from tasks.records.table import StoredTable

RECORD = "export.json"
STAGE = "export"
_ROWS_OF_GROUP = 64  # rows of a Parquet row group: a prompt may have megabytes
_COLUMNS = ("prompt", "chosen", "rejected", "example_id", "question", "references", "kind", "language", "margin", TOOLS)


@dataclass(slots=True)
class SplitCounts:
    """Of a split: the units that were read, the rows that were written, the units that were left out, by reason."""

    units: int = 0
    rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {"units": self.units, "rows": self.rows, "left_out": dict(sorted(self.left_out.items()))}


@dataclass(frozen=True, slots=True)
class Exported:
    """An export: where it is, and its `export.json`. `is_new`: it was written now."""

    folder: str
    record: Mapping[str, Any]
    is_new: bool


def export(dataset: PublishedDataset, shape: Shape, place: str) -> Exported:
    """Write a dataset in a shape to a folder or URL. The same export there already is left as it is.

    Raises InputError for a dataset of questions and for a place with other files, StoreError for a changed dataset,
    BalanceError when a unit is neither in a row nor left out.
    """
    if product_of_counts(dataset.manifest["counts"]) != PAIRS:
        raise InputError(f"{dataset.place}: a dataset of questions has no pairs to export; build pairs of it first")
    target = open_store(place)
    identity = {
        "shape": shape.name,
        "dataset": dataset.manifest["name"],
        "version": dataset.manifest["version"],
        "manifest": dataset.sha256,
    }
    if target.exists(RECORD):
        record = json.loads(target.read(RECORD))
        if {name: record.get(name) for name in identity} == identity:
            return Exported(target.place(""), record, is_new=False)
    if target.list():
        raise InputError(f"{target.place('')}: there are other files; give a folder that is empty or not there")
    with tempfile.TemporaryDirectory(prefix="longmill-export-") as work:
        folder = Path(work)
        record = {**identity, **_write(dataset, shape, folder)}
        for path in sorted(folder.iterdir()):
            target.upload(path, path.name)
    target.write(RECORD, json.dumps(record, ensure_ascii=False, indent=1).encode() + b"\n")
    return Exported(target.place(""), record, is_new=True)


def _write(dataset: PublishedDataset, shape: Shape, folder: Path) -> dict[str, Any]:
    """Write all files but `export.json`; returns what it says of them."""
    splits: dict[str, SplitCounts] = {}
    files: dict[str, str] = {}
    with_tools = False
    progress.expect(STAGE, sum(len(dataset.tables(PAIRS.name, split)) for split in SPLITS))
    for split in SPLITS:
        tables = dataset.tables(PAIRS.name, split)
        if not tables:
            continue
        files[split] = f"{split}.{shape.ending}"
        with dataset.store.open(tables[0].path) as stream:
            source = pq.read_schema(stream)
        columns = [name for name in _COLUMNS if name in source.names]
        with_tools = with_tools or TOOLS in columns
        splits[split] = counts = SplitCounts()
        with RowsFile(folder / files[split], shape, source) as rows:
            for table in tables:
                table.check(dataset.store)
                _write_table(dataset, table, columns, shape, split, rows, counts)
                progress.advance(STAGE)
    for name, text in shape.beside(ExportedSplits(str(dataset.manifest["name"]), files, with_tools)).items():
        (folder / name).write_text(text, encoding="utf-8")
    listed = []
    for path in sorted(folder.iterdir()):
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        listed.append({"path": path.name, "bytes": path.stat().st_size, "sha256": sha256})
    by_split = {split: counts.to_json() for split, counts in splits.items()}
    return {"unit": shape.unit, "splits": by_split, "files": listed}


def _write_table(
    dataset: PublishedDataset,
    table: StoredTable,
    columns: list[str],
    shape: Shape,
    split: str,
    rows: "RowsFile",
    counts: SplitCounts,
) -> None:
    """Write the rows of one table; the pairs of a question are neighbours in it."""
    for _, group in itertools.groupby(table.rows_of(dataset.store, columns), lambda pair: pair["example_id"]):
        pairs = list(group)
        if not shape.takes_tools and calls_tools(pairs[0]):
            converted = Converted(left_out=Counter({TOOLS: shape.units(pairs)}))
        else:
            converted = shape.convert(pairs, split)
        if shape.units(pairs) != len(converted.rows) + converted.left_out.total():
            raise BalanceError(
                f"{shape.name}: {shape.units(pairs)} {shape.unit} of question {pairs[0]['example_id']} gave "
                f"{len(converted.rows)} rows and {converted.left_out.total()} left out; nothing is exported"
            )
        counts.units += shape.units(pairs)
        counts.rows += len(converted.rows)
        counts.left_out += converted.left_out
        rows.add(converted)


class RowsFile:
    """A file that rows are added to, as Parquet or JSON lines; a few rows are in memory."""

    def __init__(self, path: Path, shape: Shape, source: pa.Schema) -> None:
        self._parquet: pq.ParquetWriter | None = None
        self._lines: IO[bytes] | None = None
        self._rows: list[dict[str, Any]] = []
        if shape.schema is None:
            self._lines = path.open("wb")
        else:
            self._schema = shape.schema(source)
            self._parquet = pq.ParquetWriter(path, self._schema, compression="zstd")

    def __enter__(self) -> "RowsFile":
        return self

    def __exit__(self, *error: object) -> None:
        if self._lines is not None:
            self._lines.close()
        if self._parquet is not None:
            if error[0] is None:
                self._flush()
            self._parquet.close()

    def add(self, converted: Converted) -> None:
        """Add the rows of a question."""
        if self._lines is not None:
            for row in converted.rows:
                self._lines.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            return
        self._rows += converted.rows
        if len(self._rows) >= _ROWS_OF_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._parquet is not None and self._rows:
            self._parquet.write_table(_table_of(self._rows, self._schema))
            self._rows = []


def _table_of(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table; values of Arrow's type JSON, as prompts with tool calls are, are written as their text."""
    as_text = schema
    encoded = [dict(row) for row in rows]
    for place, column in enumerate(schema):
        is_list = pa.types.is_list(column.type) and column.type.value_type == pa.json_()
        if not is_list and column.type != pa.json_():
            continue
        as_text = as_text.set(place, column.with_type(pa.list_(pa.string()) if is_list else pa.string()))
        for row in encoded:
            value = row[column.name]
            if value is not None:
                row[column.name] = list(map(json_text, value)) if is_list else json_text(value)
    return pa.Table.from_pylist(encoded, schema=as_text).cast(schema)


def exported_rows(record: Mapping[str, Any]) -> Iterator[list[str]]:
    """The rows of a table that says what an export has."""
    for split, counts in record["splits"].items():
        yield [f"{split}: {record['unit']}", f"{counts['units']:,}"]
        yield [f"{split}: rows", f"{counts['rows']:,}"]
        for reason, count in sorted(counts["left_out"].items()):
            yield [f"{split}: left out, {reason}", f"{count:,}"]
