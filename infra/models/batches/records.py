"""What the store remembers of open batches: which requests each holds, and its id at the server.

A record is written after the file is uploaded and before the batch is made, so whenever a run is killed, the next one
finds the record. If it has no id, the server's list tells whether the batch was made: by the input file, which is the
record's own. Two files: the lines, which may be megabytes and are written once, and the small state.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from infra.canonical import canonical_json, fingerprint
from infra.errors import MissingError, StoreError
from infra.models.protocol import SentCall
from infra.store import Store

FOLDER = "batches"  # in the store


@dataclass(frozen=True, slots=True)
class BatchLines:
    """The requests of a batch: kinds of calls by ledger key; all of one model and revision."""

    model: str
    revision: str
    kinds: Mapping[str, str]

    def sent_call(self, key: str) -> SentCall:
        """The call of a request, for the ledger."""
        return SentCall(key, self.kinds[key], self.model, self.revision)


@dataclass(frozen=True, slots=True)
class BatchState:
    """What is known of a batch."""

    input_file: str  # its id at the server
    at: float  # unix seconds when the batch was about to be made
    total: int
    batch: str | None = None  # its id; None: not known to be made
    status: str = ""  # in the server's words
    done: int = 0  # requests that are answered


class BatchRecords:
    """The records of one model's open batches at one endpoint. All methods raise StoreError."""

    def __init__(self, store: Store, model: str, url: str) -> None:
        self._store = store
        self._folder = f"{FOLDER}/{fingerprint([model, url])[:16]}"

    def begin(self, name: str, lines: BatchLines, state: BatchState) -> None:
        """Write a new record."""
        self._store.write(f"{self._folder}/{name}/lines.json", canonical_json(asdict(lines)))
        self.update(name, state)

    def update(self, name: str, state: BatchState) -> None:
        """Write what is known now."""
        self._store.write(f"{self._folder}/{name}/state.json", canonical_json(asdict(state)))

    def names(self) -> set[str]:
        """The open batches, by the names of their records."""
        return {path.split("/")[2] for path in self._store.list(self._folder) if path.endswith("/state.json")}

    def state(self, name: str) -> BatchState | None:
        """What is known of a batch; None when its record has gone."""
        fields = self._read(f"{self._folder}/{name}/state.json")
        return None if fields is None else BatchState(**fields)

    def lines(self, name: str) -> BatchLines | None:
        """The requests of a batch; None when its record has gone."""
        fields = self._read(f"{self._folder}/{name}/lines.json")
        return None if fields is None else BatchLines(**fields)

    def remove(self, name: str) -> None:
        """Forget a batch: its replies are in the ledger, or it was never made."""
        self._store.delete(f"{self._folder}/{name}/state.json", f"{self._folder}/{name}/lines.json")

    def place(self, name: str) -> str:
        """Where a record lies, for people."""
        return self._store.place(f"{self._folder}/{name}")

    def _read(self, path: str) -> dict[str, Any] | None:
        try:
            fields: dict[str, Any] = json.loads(self._store.read(path))
        except MissingError:
            return None
        except ValueError as error:
            place = self._store.place(path)
            raise StoreError(f"{place}: damaged ({error}); remove its folder and run again") from error
        return fields


def open_batches(store: Store) -> list[BatchState]:
    """All open batches of a store, the oldest first."""
    states = []
    for path in store.list(FOLDER):
        if path.endswith("/state.json"):
            try:
                states.append(BatchState(**json.loads(store.read(path))))
            except MissingError:
                continue  # it has ended meanwhile
    return sorted(states, key=lambda state: state.at)
