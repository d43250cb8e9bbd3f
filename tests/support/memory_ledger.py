"""A ledger in memory, for tests of the code that writes to one."""

import asyncio
from collections.abc import Sequence

from infra.ledger import Entry


class MemoryLedger:
    """Entries in a dict. `record` waits while `gate` is cleared; `fault` is raised when it is set."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.looked_up = 0
        self.fault: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    def lookup(self, keys: Sequence[str]) -> dict[str, Entry]:
        self.looked_up += len(keys)
        if self.fault is not None:
            raise self.fault
        return {key: self.entries[key] for key in keys if key in self.entries}

    def holds(self, keys: Sequence[str]) -> set[str]:
        return self.entries.keys() & set(keys)

    async def record(self, entry: Entry) -> None:
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        earlier = self.entries.get(entry.key)
        assert earlier is None or earlier.is_refusal or earlier.is_cut_short, "paid twice"
        self.entries[entry.key] = entry
