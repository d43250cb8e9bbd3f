"""A segment of the ledger: some paid calls as one immutable Parquet file, named by the sha256 of its bytes.

Equal entries give equal bytes, so two workers that merge the same segments write the same file. Rows are
sorted by key and a key stands once. Where two entries claim one key, `precedence` decides, the same way on
every machine. Leaves out: where segments lie, and which of them exist (see infra/ledger.py).
"""

import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.store import table_bytes

Digests = npt.NDArray[np.bytes_]  # shape [rows], dtype S32: keys as bytes, sorted

_REPEATING = ("kind", "model", "revision", "status")
_ROWS_PER_GROUP = 4096


@dataclass(frozen=True, slots=True)
class Entry:
    """One paid call: what was asked (by `key`), what came back, and what it took."""

    key: str  # sha256 of the canonical request, 64 hex digits
    kind: str  # "sample", "judge", …: for counting
    model: str
    revision: str
    status: int  # of the HTTP reply
    reply: str  # the raw JSON body
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    created: float  # unix seconds


@dataclass(frozen=True, slots=True)
class Segment:
    """What is known of a segment without its rows. `decoded_bytes` is its size in memory, roughly."""

    name: str
    rows: int
    decoded_bytes: int
    first_created: float


SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), False),
        pa.field("kind", pa.string(), False),
        pa.field("model", pa.string(), False),
        pa.field("revision", pa.string(), False),
        pa.field("status", pa.int32(), False),
        pa.field("reply", pa.string(), False),
        pa.field("prompt_tokens", pa.int64(), False),
        pa.field("completion_tokens", pa.int64(), False),
        pa.field("seconds", pa.float64(), False),
        pa.field("created", pa.float64(), False),
    ]
)
_NAMES = tuple(field.name for field in fields(Entry))


def precedence(entry: Entry) -> tuple[Any, ...]:
    """The smallest wins a key: the earliest reply, then by its hash; the rest makes the order total."""
    rest = (entry.status, entry.prompt_tokens, entry.completion_tokens, entry.seconds)
    return (entry.created, hashlib.sha256(entry.reply.encode()).hexdigest(), *rest, *_labels(entry))


def _labels(entry: Entry) -> tuple[str, str, str]:
    return entry.kind, entry.model, entry.revision


def table_of(entries: Iterable[Entry]) -> pa.Table:
    """Entries as a segment's table: sorted by key, one row a key."""
    best: dict[str, Entry] = {}
    for entry in entries:
        rival = best.get(entry.key)
        if rival is None or precedence(entry) < precedence(rival):
            best[entry.key] = entry
    rows = [best[key] for key in sorted(best)]
    return pa.Table.from_pydict({name: [getattr(row, name) for row in rows] for name in _NAMES}, schema=SCHEMA)


def merged(tables: Sequence[pa.Table]) -> pa.Table:
    """Several segments as one: sorted by key, one row a key."""
    whole = pa.concat_tables(tables)
    whole = whole.take(pc.sort_indices(whole, sort_keys=[("key", "ascending")])).combine_chunks()
    keys = digests_of(whole)
    if whole.num_rows < 2 or not bool(np.any(keys[1:] == keys[:-1])):
        return whole
    return table_of(entries_at(whole, range(whole.num_rows)))


def encode(table: pa.Table) -> bytes:
    """A segment's bytes."""
    return table_bytes(table, rows_per_group=_ROWS_PER_GROUP, dictionary=_REPEATING)


def name_of(data: bytes) -> str:
    """The file name that a segment of these bytes has."""
    return f"{hashlib.sha256(data).hexdigest()}.parquet"


def decode(data: bytes) -> pa.Table:
    """The table in a segment's bytes. Raises ValueError (Arrow's own is one) or OSError when they hold none."""
    table = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True).read()
    _check(table.schema)
    return table


def _check(schema: pa.Schema) -> None:
    if not schema.equals(SCHEMA):
        raise ValueError("its columns are not those of this version of Longmill")


def describe(name: str, table: pa.Table) -> Segment:
    """A segment's facts, from its rows."""
    first = pc.min(table.column("created")).as_py()
    return Segment(name, table.num_rows, table.nbytes, float(first or 0.0))


def survey(name: str, file: Any) -> tuple[Segment, Digests]:
    """A segment's facts and keys, from its footer and its key column alone. Raises ValueError or OSError."""
    parquet = pq.ParquetFile(file, page_checksum_verification=True)
    _check(parquet.schema_arrow)
    groups = [parquet.metadata.row_group(index) for index in range(parquet.metadata.num_row_groups)]
    created = SCHEMA.get_field_index("created")
    firsts = [group.column(created).statistics for group in groups]
    first = min((facts.min for facts in firsts if facts is not None and facts.has_min_max), default=0.0)
    keys = parquet.read(columns=["key"])
    size = sum(group.total_byte_size for group in groups)
    return Segment(name, parquet.metadata.num_rows, size, float(first)), digests_of(keys)


def digests_of(table: pa.Table) -> Digests:
    """The keys of a segment's table as bytes. Raises ValueError for a key that is not 64 hex digits."""
    keys = table.column("key").to_pylist()
    raw = bytes.fromhex("".join(keys))
    if len(raw) != 32 * len(keys):
        raise ValueError("a key is not 64 hex digits")
    return np.frombuffer(raw, dtype="S32")


def entries_at(table: pa.Table, rows: Iterable[int]) -> list[Entry]:
    """The entries that stand in these rows."""
    columns = table.take(pa.array(rows, type=pa.int64())).to_pydict()
    return [Entry(*values) for values in zip(*(columns[name] for name in _NAMES), strict=True)]


def entries_of(table: pa.Table, keys: Digests, digests: Sequence[bytes]) -> list[Entry]:
    """The entries of a segment's table, whose keys are `keys`, that have one of `digests` for a key."""
    wanted = np.array(list(digests), dtype="S32")
    places = np.searchsorted(keys, wanted)
    inside = places < len(keys)
    hits = places[inside][keys[places[inside]] == wanted[inside]]
    return entries_at(table, hits.tolist())
