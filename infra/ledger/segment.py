"""A segment of the ledger: some paid calls in one immutable Parquet file, named by the sha256 of its bytes.

Equal entries give equal bytes, so two workers that merge the same segments write the same file. Rows are
sorted by key, and every key has one row. Where two entries have the same key, `precedence` decides which one
stays, the same way on every machine.

A key is a text of 64 hex digits in an entry and in the file; in memory it is a digest of 32 bytes.
Leaves out: where segments are stored (segment_store.py), and which of them exist (ledger.py).
"""

import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.store import table_bytes

Digests = npt.NDArray[np.bytes_]  # shape [rows], dtype S32: the keys of a segment as bytes, sorted

_REPEATING_COLUMNS = ("kind", "model", "revision", "status")
_ROWS_PER_GROUP = 4096
# Endings for which the server is the cause, as servers write them; infra/models/completions.py has all names.
_CUT_SHORT = re.compile(
    r'"finish_reason"\s*:\s*"(abort|aborted|cancelled|error|network_error|insufficient_system_resource|content_filter'
    r'|content_filtered|safety|recitation|prohibited_content|blocklist|spii|sensitive)"',
    re.I,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One paid call: the key of its request, the reply, and what the call took."""

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

    @property
    def is_refusal(self) -> bool:
        """Whether the server has refused the call."""
        return not 200 <= self.status < 300

    @property
    def is_cut_short(self) -> bool:
        """Whether the server has broken the reply off: by a fault, or by a content filter."""
        return _CUT_SHORT.search(self.reply) is not None


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """What the ledger remembers of a segment without its rows."""

    name: str  # file name: sha256 and ".parquet"
    rows: int
    decoded_bytes: int  # size in memory, roughly
    first_created: float  # unix seconds, of the oldest entry


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


def precedence(entry: Entry) -> tuple[Any, ...]:
    """Sort key: of entries with the same key the smallest stays.

    A reply comes before one that was cut short, and that before a refusal: they were tried again. Of whole replies the
    earliest comes first, of the others the latest; then the smallest hash of the reply. The other fields only make sure
    that two different entries never compare as equal.
    """
    lasting = not (entry.is_refusal or entry.is_cut_short)
    return (
        entry.is_refusal,
        not lasting,
        entry.created if lasting else -entry.created,
        hashlib.sha256(entry.reply.encode()).hexdigest(),
        entry.status,
        entry.prompt_tokens,
        entry.completion_tokens,
        entry.seconds,
        entry.kind,
        entry.model,
        entry.revision,
    )


def entries_table(entries: Iterable[Entry]) -> pa.Table:
    """Entries as the table of a segment: sorted by key, one row per key."""
    best: dict[str, Entry] = {}
    for entry in entries:
        other = best.get(entry.key)
        if other is None or precedence(entry) < precedence(other):
            best[entry.key] = entry
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for key in sorted(best):
        for name in SCHEMA.names:
            columns[name].append(getattr(best[key], name))
    return pa.Table.from_pydict(columns, schema=SCHEMA)


def merge_tables(tables: Sequence[pa.Table]) -> pa.Table:
    """The tables of several segments as one: sorted by key, one row per key."""
    table = pa.concat_tables(tables)
    table = table.take(pc.sort_indices(table, sort_keys=[("key", "ascending")])).combine_chunks()
    digests = digests_of(table)
    if bool(np.any(digests[1:] == digests[:-1])):
        return entries_table(entries_in_rows(table, range(table.num_rows)))
    return table


def encode(table: pa.Table) -> bytes:
    """The bytes of a segment."""
    return table_bytes(table, rows_per_group=_ROWS_PER_GROUP, dictionary=_REPEATING_COLUMNS)


def decode(data: bytes) -> pa.Table:
    """The table in the bytes of a segment. Raises ValueError (Arrow's own is one) or OSError for other bytes."""
    table = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True).read()
    _check_schema(table.schema)
    return table


def segment_name(data: bytes) -> str:
    """The file name of a segment with these bytes."""
    return f"{hashlib.sha256(data).hexdigest()}.parquet"


def table_info(name: str, table: pa.Table) -> SegmentInfo:
    """The info of a segment, from its rows."""
    first_created = pc.min(table.column("created")).as_py()
    return SegmentInfo(name, table.num_rows, table.nbytes, float(first_created or 0.0))


def read_info(name: str, file: Any) -> tuple[SegmentInfo, Digests]:
    """The info and the keys of a segment, reading only its footer and its key column.

    Raises ValueError or OSError when the file is not a segment.
    """
    parquet = pq.ParquetFile(file, page_checksum_verification=True)
    _check_schema(parquet.schema_arrow)
    created_column = SCHEMA.get_field_index("created")
    decoded_bytes = 0
    first_times: list[float] = []
    for number in range(parquet.metadata.num_row_groups):
        row_group = parquet.metadata.row_group(number)
        decoded_bytes += row_group.total_byte_size
        statistics = row_group.column(created_column).statistics
        if statistics is not None and statistics.has_min_max:
            first_times.append(float(statistics.min))
    info = SegmentInfo(name, parquet.metadata.num_rows, decoded_bytes, min(first_times, default=0.0))
    return info, digests_of(parquet.read(columns=["key"]))


def _check_schema(schema: pa.Schema) -> None:
    if not schema.equals(SCHEMA):
        raise ValueError("its columns are not those of this version of Longmill")


def digests_of(table: pa.Table) -> Digests:
    """The keys of a segment's table as bytes. Raises ValueError for a key that is not 64 hex digits."""
    keys = table.column("key").to_pylist()
    data = bytes.fromhex("".join(keys))
    if len(data) != 32 * len(keys):
        raise ValueError("a key is not 64 hex digits")
    return np.frombuffer(data, dtype="S32")


def entries_in_rows(table: pa.Table, rows: Iterable[int]) -> list[Entry]:
    """The entries in these rows of a segment's table."""
    selected = table.take(pa.array(rows, type=pa.int64()))
    return [Entry(**row) for row in selected.to_pylist()]


def find_entries(table: pa.Table, table_digests: Digests, digests: Sequence[bytes]) -> list[Entry]:
    """The entries of a segment's table with one of these keys. `table_digests` are the keys of all its rows."""
    targets = np.array(list(digests), dtype="S32")
    rows = np.searchsorted(table_digests, targets)
    in_range = rows < len(table_digests)
    rows, targets = rows[in_range], targets[in_range]
    matching_rows = rows[table_digests[rows] == targets]
    return entries_in_rows(table, matching_rows.tolist())
