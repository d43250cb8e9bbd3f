"""Group commit: coroutines submit entries, and one thread commits all entries that wait as one group.

There is a pause after every commit. It lasts as long as the commit took, and at least ten times the processor time
that the commit used; never less than 20 ms or more than a second. So the ledger uses at most a tenth of one
processor and half of the disk's time, and the entries that arrive during the pause share the next commit. The pause
does not depend on the elapsed time alone, because on a busy disk, which is slow to sync, it would then hold up every
call for half a second.
Leaves out: what a commit does (see ledger.py).
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

_MIN_PAUSE_S = 0.02
_MAX_PAUSE_S = 1.0
_PAUSE_PER_CPU_SECOND = 10.0
_GROUP_BYTES = 32 << 20  # of replies; a group ends with the entry that reaches it, the rest waits for the next


@dataclass(frozen=True, slots=True)
class _WaitingEntry:
    entry: Entry
    loop: asyncio.AbstractEventLoop
    committed: "asyncio.Future[None]"  # of `loop`


class GroupCommit:
    """A thread that calls `commit` with the entries that wait, and `after_commit` after each commit."""

    def __init__(self, commit: Callable[[Sequence[Entry]], None], after_commit: Callable[[], None]) -> None:
        self._commit = commit
        self._after_commit = after_commit
        self._changed = threading.Condition()  # guards the fields below
        self._waiting: list[_WaitingEntry] = []
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    async def submit(self, entry: Entry) -> None:
        """Return when the entry is committed. Raises LedgerError when the commit failed."""
        loop = asyncio.get_running_loop()
        waiting_entry = _WaitingEntry(entry, loop, loop.create_future())
        with self._changed:
            if self._closing.is_set():
                raise LedgerError("the ledger is closed; this call's reply cannot be kept")
            self._waiting.append(waiting_entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
                self._thread.start()
            self._changed.notify()
        await waiting_entry.committed

    def close(self) -> None:
        """Commit the entries that wait, and end the thread."""
        with self._changed:
            self._closing.set()
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while group := self._next_group():
            start, cpu_start = time.monotonic(), time.thread_time()
            error: LedgerError | None = None
            try:
                self._commit([waiting_entry.entry for waiting_entry in group])
            except LedgerError as fault:
                error = fault
            except Exception as fault:
                error = LedgerError(f"the ledger could not write {len(group)} replies: {fault!r}")
                error.__cause__ = fault
            pause_s = _pause_after(time.monotonic() - start, time.thread_time() - cpu_start)
            _finish(group, error)
            try:
                self._after_commit()
            except Exception:  # this thread must not end: every later call would wait for ever
                _log.exception("the work after a commit failed; the entries are safe")
            self._closing.wait(pause_s)

    def _next_group(self) -> list[_WaitingEntry]:
        """Wait for entries and take them. Empty when the ledger is closed and nothing waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
            group_bytes = count = 0
            while count < len(self._waiting) and group_bytes < _GROUP_BYTES:
                group_bytes += len(self._waiting[count].entry.reply)
                count += 1
            group, self._waiting = self._waiting[:count], self._waiting[count:]
            return group


def _pause_after(elapsed_s: float, cpu_s: float) -> float:
    """Seconds of pause after a commit that took so many seconds, and so many of the processor."""
    return min(max(_MIN_PAUSE_S, _PAUSE_PER_CPU_SECOND * cpu_s, elapsed_s), _MAX_PAUSE_S)


def _finish(group: Sequence[_WaitingEntry], error: LedgerError | None) -> None:
    """End the wait of every coroutine, with one call into each event loop."""
    futures_by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for waiting_entry in group:
        futures_by_loop.setdefault(waiting_entry.loop, []).append(waiting_entry.committed)
    for loop, futures in futures_by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed, so no coroutine waits
            loop.call_soon_threadsafe(_set_results, futures, error)


def _set_results(futures: Sequence["asyncio.Future[None]"], error: LedgerError | None) -> None:
    for future in futures:
        if future.done():  # its task was cancelled
            continue
        if error is None:
            future.set_result(None)
        else:
            own_error = LedgerError(*error.args)  # one per task: raising adds a traceback to it
            own_error.__cause__ = error.__cause__
            future.set_exception(own_error)
