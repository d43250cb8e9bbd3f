"""What opening a ledger of a million calls costs a process: seconds and memory, without a key file and with one.

`python -m flows.bench.ledger_keys FOLDER` opens the ledger of a store in a process of its own and prints the figures.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from infra.ledger import Ledger
from infra.ledger.segment import SCHEMA, encode, segment_name
from infra.store import Store, open_store

ENTRIES, ROWS = 1_000_000, 20_000  # calls in all, and of a segment
LOOKUPS = 2048  # the calls of a shard


def measure() -> dict[str, Any]:
    """Figures of a process that opens the ledger and looks for the calls of a shard, half of which are there."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder)
        for start in range(0, ENTRIES, ROWS):
            _write_segment(store, start)
        without = _opened(folder)
        clock = time.process_time()
        Ledger(store).close()  # writes the key file
        written_s = time.process_time() - clock
        bytes_written = sum(store.sizes("ledger-keys").values())
        with_key_file = _opened(folder)
    return {
        "entries": ENTRIES,
        "without_key_file": without,
        "with_key_file": with_key_file,
        "key_file_written_cpu_s": round(written_s, 2),
        "key_file_mb": round(bytes_written / 1e6, 1),
    }


def _key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def _write_segment(store: Store, start: int) -> None:
    keys = sorted(_key(number) for number in range(start, start + ROWS))
    columns: dict[str, list[Any]] = {
        "key": keys,
        "kind": ["sample"] * ROWS,
        "model": ["m"] * ROWS,
        "revision": ["main"] * ROWS,
        "status": [200] * ROWS,
        "reply": ["x" * 400 + key for key in keys],
        "prompt_tokens": [100] * ROWS,
        "completion_tokens": [10] * ROWS,
        "seconds": [1.0] * ROWS,
        "created": [1e9 + start] * ROWS,
    }
    data = encode(pa.Table.from_pydict(columns, schema=SCHEMA))
    store.write(f"ledger/{segment_name(data)}", data)


def _opened(folder: str) -> dict[str, float]:
    """The figures of a process of its own."""
    command = [sys.executable, "-m", "flows.bench.ledger_keys", folder]
    figures: dict[str, float] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return figures


def open_and_look(folder: str) -> dict[str, float]:
    """Processor seconds to open the ledger and to look for the calls of a shard, and the memory that this took."""
    process = psutil.Process()
    store = open_store(folder)
    clock, resident = time.process_time(), process.memory_info().rss
    ledger = Ledger(store)
    ledger.holds([_key(0)])
    opened = time.process_time()
    present = ledger.holds([_key(2 * number * ENTRIES // LOOKUPS) for number in range(LOOKUPS)])
    looked = time.process_time()
    memory = process.memory_info()
    return {
        "open_cpu_s": round(opened - clock, 2),
        "look_cpu_ms": round(1000 * (looked - opened), 1),
        "memory_mb": round((memory.rss - resident) / 1e6),
        "present": len(present),
    }


if __name__ == "__main__":
    print(json.dumps(open_and_look(str(Path(sys.argv[1])))))
