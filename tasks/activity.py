"""What a run is doing now, for people who watch it: shards in work, calls in flight, the last refusals and drops.

It is a part of the reports that builds write (flows/reports.py). Nothing depends on it. It holds the words of servers,
from which the client has taken keys, and the details of drops as the dataset will have them.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from infra.models.protocol import Failure
from tasks.records.example import Drop

LAST = 10  # refusals and drops that are remembered
_MOST_CHARACTERS = 300  # of words


class Activity:
    """What this process does, and what the other processes of its run say that they do. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scored = 0  # questions
        self._shards: dict[int, str] = {}  # in work, with the ids of their flow runs
        self._waits: dict[str, str] = {}  # what the calls to a model wait for, by the recipe's section
        self._refused: deque[dict[str, Any]] = deque(maxlen=LAST)
        self._dropped: deque[dict[str, Any]] = deque(maxlen=LAST)

    @contextlib.contextmanager
    def working_on(self, shard: int, run_id: str) -> Iterator[None]:
        """Let a shard count as being worked on until the block ends. `run_id`: of its flow run, "" without one."""
        with self._lock:
            self._shards[shard] = run_id
        try:
            yield
        finally:
            with self._lock:
                self._shards.pop(shard, None)

    def count_scored(self, questions: int) -> None:
        """Count questions that are done with."""
        with self._lock:
            self._scored += questions

    def note_wait(self, section: str, text: str) -> None:
        """Say what the calls to a section's model wait for; "" when they go on."""
        with self._lock:
            self._waits[section] = text[:_MOST_CHARACTERS]

    def note_refusal(self, section: str, kind: str, failure: Failure) -> None:
        """Remember a call that has ended without a reply."""
        words = failure.detail[:_MOST_CHARACTERS]
        entry = {"at": _now(), "model": section, "kind": kind, "reason": failure.reason, "words": words}
        with self._lock:
            self._refused.append(entry)

    def note_drops(self, shard: int, drops: Sequence[Drop]) -> None:
        """Remember the last questions that a shard has dropped."""
        now = _now()
        with self._lock:
            for drop in drops[-LAST:]:
                words = drop.detail[:_MOST_CHARACTERS]
                entry = {"at": now, "shard": shard, "example_id": drop.example_id}
                self._dropped.append({**entry, "stage": drop.stage, "reason": drop.reason, "words": words})

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: `scored`, `shards` and their `runs`, `waits`, `refused` and `dropped`, the last one last."""
        with self._lock:
            return {
                "scored": self._scored,
                "shards": sorted(self._shards),
                "runs": {str(shard): run_id for shard, run_id in sorted(self._shards.items()) if run_id},
                "waits": {section: text for section, text in self._waits.items() if text},
                "refused": list(self._refused),
                "dropped": list(self._dropped),
            }


def together(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The activity of several processes as that of one; fields that a report lacks count as empty."""
    shards: set[int] = set()
    runs: dict[str, str] = {}
    waits: dict[str, str] = {}
    in_flight: dict[str, int] = {}
    last: dict[str, list[dict[str, Any]]] = {"refused": [], "dropped": []}
    for report in reports:
        shards.update(report.get("shards", ()))
        runs.update(report.get("runs", {}))
        waits.update(report.get("waits", {}))
        for section, calls in report.get("in_flight", {}).items():
            in_flight[section] = in_flight.get(section, 0) + calls
        for name, entries in last.items():
            entries.extend(report.get(name, ()))
    for name, entries in last.items():
        last[name] = sorted(entries, key=lambda entry: str(entry["at"]))[-LAST:]
    scored = sum(report.get("scored", 0) for report in reports)
    return {"scored": scored, "shards": sorted(shards), "runs": runs, "waits": waits, "in_flight": in_flight, **last}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
