"""One call for each key, however many threads request it at the same time.

A call is registered before the ledger is looked up and removed after its reply is durable. Whoever requests the
same key later finds either the call or the ledger's entry, so nothing is paid twice. What it leaves out: calls of
other processes, which share the ledger alone.
"""

import threading
from collections.abc import Iterable, Sequence

from infra.models.protocol import Outcome, Request


class CallBatch:
    """The calls that one thread waits for."""

    __slots__ = ("done", "error", "outcomes", "pending")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.outcomes: dict[str, Outcome] = {}  # by key
        self.error: Exception | None = None  # of the first call that could not be made at all
        self.pending = 0  # calls without an outcome


class PendingCall:
    """A call that has no outcome yet, and the batches that wait for it."""

    __slots__ = ("batches", "failed_attempts", "in_flight", "request", "reserved")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.batches: list[CallBatch] = []
        self.in_flight = False
        self.reserved = False  # counted in the budget before it is paid
        self.failed_attempts = 0


class SingleFlight:
    """All calls without an outcome, by key. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[str, PendingCall] = {}

    def register(self, requests: Sequence[Request]) -> tuple[CallBatch, list[PendingCall]]:
        """A batch for `requests`, and those of its calls that no other batch has registered, in their order."""
        batch = CallBatch()
        new_calls: list[PendingCall] = []
        distinct = {request.key: request for request in requests}
        with self._lock:
            for key, request in distinct.items():
                call = self._calls.get(key)
                if call is None:
                    call = self._calls[key] = PendingCall(request)
                    new_calls.append(call)
                call.batches.append(batch)
            batch.pending = len(distinct)
        if not distinct:
            batch.done.set()
        return batch, new_calls

    def start(self, call: PendingCall) -> bool:
        """Mark a call as in flight. False when it was finished already, or no batch waits for it any more."""
        with self._lock:
            if not call.batches:
                self._remove(call)
            if self._calls.get(call.request.key) is not call:
                return False
            call.in_flight = True
            return True

    def requeue(self, call: PendingCall) -> None:
        """The call is not in flight any more; another attempt will follow."""
        with self._lock:
            call.in_flight = False

    def finish(self, call: PendingCall, outcome: Outcome | Exception) -> None:
        """Remove a call and give its outcome, or the error that ended it, to every batch that waits."""
        with self._lock:
            if not self._remove(call):
                return
            for batch in call.batches:
                if isinstance(outcome, Exception):
                    batch.error = batch.error or outcome
                else:
                    batch.outcomes[call.request.key] = outcome
                self._count_down(batch)

    def cancel(self, batch: CallBatch, keys: Iterable[str]) -> None:
        """Let a batch stop waiting for its calls that are not in flight. Other batches go on waiting for them."""
        with self._lock:
            for key in keys:
                call = self._calls.get(key)
                if call is not None and not call.in_flight and batch in call.batches:
                    call.batches.remove(batch)
                    self._count_down(batch)

    def _remove(self, call: PendingCall) -> bool:
        """Remove a call; False when it was removed before, and its key may belong to a later call."""
        if self._calls.get(call.request.key) is not call:
            return False
        del self._calls[call.request.key]
        return True

    @staticmethod
    def _count_down(batch: CallBatch) -> None:
        batch.pending -= 1
        if batch.pending == 0:
            batch.done.set()
