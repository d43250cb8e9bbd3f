"""Group commit: many coroutines hand in entries, one thread writes them together and tells all at once.

Commits are spaced: after one, the thread rests at least 20 ms, ten times the processor time that it took, and
once the time that it took in all, but a second at most. So writing takes a tenth of a processor and half of a
disk at most, and what arrives meanwhile shares a write. Spacing by the whole time alone would hold every call's
place for half a second where a disk is busy and syncs slowly.
Leaves out: what a commit is, which the ledger says.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from infra.errors import LedgerError
from infra.ledger.segment import Entry

_log = logging.getLogger(__name__)

_SHORTEST_GAP_S = 0.02
_LONGEST_GAP_S = 1.0
_GAP_PER_CPU = 10.0
_COMMIT_BYTES = 32 << 20  # of replies; what is more waits for the next commit


@dataclass(frozen=True, slots=True)
class _Waiting:
    entry: Entry
    loop: asyncio.AbstractEventLoop
    written: "asyncio.Future[None]"


class GroupCommit:
    """A thread that calls `commit` with the entries that wait; `between` is called after each commit."""

    def __init__(self, commit: Callable[[Sequence[Entry]], None], between: Callable[[], None]) -> None:
        self._commit = commit
        self._between = between
        self._arrived = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    async def submit(self, entry: Entry) -> None:
        """Hand in an entry; returns when its commit has ended. Raises LedgerError when that failed."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(entry, loop, loop.create_future())
        with self._arrived:
            if self._closing.is_set():
                raise LedgerError("the ledger is closed; this call's reply cannot be kept")
            self._waiting.append(waiting)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
                self._thread.start()
            if len(self._waiting) == 1:
                self._arrived.notify()
        await waiting.written

    def close(self) -> None:
        """Commit what waits and end the thread."""
        with self._arrived:
            self._closing.set()
            self._arrived.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while group := self._next_group():
            started, worked = time.monotonic(), time.thread_time()
            error: LedgerError | None = None
            try:
                self._commit([waiting.entry for waiting in group])
            except LedgerError as fault:
                error = fault
            except Exception as fault:
                error = LedgerError(f"the ledger could not write {len(group)} replies: {fault!r}")
                error.__cause__ = fault
            gap = max(_SHORTEST_GAP_S, _GAP_PER_CPU * (time.thread_time() - worked), time.monotonic() - started)
            _settle(group, error)
            try:
                self._between()
            except Exception:  # this thread must live: every later call waits for it
                _log.exception("the work between two commits failed; the entries are safe")
            self._closing.wait(min(gap, _LONGEST_GAP_S))

    def _next_group(self) -> list[_Waiting]:
        """Wait for entries and take them; [] at the end."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._waiting or self._closing.is_set())
            size = count = 0
            while count < len(self._waiting) and size < _COMMIT_BYTES:
                size += len(self._waiting[count].entry.reply)
                count += 1
            group, self._waiting = self._waiting[:count], self._waiting[count:]
            return group


def _settle(group: Sequence[_Waiting], error: LedgerError | None) -> None:
    """Wake the coroutines, with one call into each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for waiting in group:
        by_loop.setdefault(waiting.loop, []).append(waiting.written)
    for loop, futures in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            loop.call_soon_threadsafe(_wake, futures, error)


def _wake(futures: Sequence["asyncio.Future[None]"], error: LedgerError | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(LedgerError(*error.args))
