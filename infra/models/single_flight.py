"""Who waits for which call: a key is claimed once, however many threads ask for it.

A claim is taken before the ledger is looked up and given back after the reply is durable, so whoever comes
later finds either the claim or the entry, and nothing is paid twice. What it leaves out: claims of other
processes, which meet in the ledger alone.
"""

import threading
from collections.abc import Iterable, Sequence

from infra.models.protocol import Outcome, Request


class CallBatch:
    """The calls that one thread waits for."""

    __slots__ = ("done", "error", "left", "outcomes")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.outcomes: dict[str, Outcome] = {}
        self.error: Exception | None = None  # of the first call that could not be made at all
        self.left = 0


class PendingCall:
    """A request on its way, and the batches that wait for it."""

    __slots__ = ("attempts", "batches", "request", "reserved", "sent")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.batches: list[CallBatch] = []
        self.sent = False  # in flight now
        self.reserved = False  # counted in the budget before it is paid
        self.attempts = 0  # tries that failed


class SingleFlight:
    """All calls that somebody waits for, by key. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[str, PendingCall] = {}

    def claim(self, requests: Sequence[Request]) -> tuple[CallBatch, list[PendingCall]]:
        """A batch for `requests`, and those of its calls that nobody else has claimed, in their order."""
        batch, own = CallBatch(), []
        with self._lock:
            for key, request in {request.key: request for request in requests}.items():
                call = self._calls.get(key)
                if call is None:
                    call = self._calls[key] = PendingCall(request)
                    own.append(call)
                call.batches.append(batch)
                batch.left += 1
        if not batch.left:
            batch.done.set()
        return batch, own

    def start(self, call: PendingCall) -> bool:
        """Mark a call as sent; False when nobody waits for it any more: then its claim is gone."""
        with self._lock:
            if not call.batches:
                self._let_go(call)
            if self._calls.get(call.request.key) is not call:
                return False
            call.sent = True
            return True

    def requeue(self, call: PendingCall) -> None:
        """The call is not in flight any more; it will be tried again."""
        with self._lock:
            call.sent = False

    def finish(self, call: PendingCall, outcome: Outcome | Exception) -> None:
        """Give every waiting batch the outcome, or the error that ends it, and the claim back."""
        with self._lock:
            if not self._let_go(call):
                return
            for batch in call.batches:
                if isinstance(outcome, Exception):
                    batch.error = batch.error or outcome
                else:
                    batch.outcomes[call.request.key] = outcome
                self._one_less(batch)

    def withdraw(self, batch: CallBatch, keys: Iterable[str]) -> None:
        """Stop waiting for those of a batch's calls that are not in flight."""
        with self._lock:
            for key in keys:
                call = self._calls.get(key)
                if call is not None and not call.sent and batch in call.batches:
                    call.batches.remove(batch)
                    self._one_less(batch)

    def _let_go(self, call: PendingCall) -> bool:
        """Give a call's claim back; False when it was given back already, and may be another's by now."""
        if self._calls.get(call.request.key) is not call:
            return False
        del self._calls[call.request.key]
        return True

    @staticmethod
    def _one_less(batch: CallBatch) -> None:
        batch.left -= 1
        if batch.left == 0:
            batch.done.set()
