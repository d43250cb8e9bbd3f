"""Contexts in line: first come, first served, a bounded number of them in flight.

The calls of a context form a line. A line is admitted when there is room, stays until its last call is over,
and lets its context's later calls join it meanwhile, since the server still has the prefix in its cache.
Used in one event loop; knows nothing of how a call is made.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from infra.models.endpoint import Endpoint
from infra.models.single_flight import PendingCall


@dataclass(eq=False, slots=True)
class QueuedContext:
    """The calls of one context: those that wait, and how many are not over."""

    affinity: str
    ranking: list[Endpoint]
    queue: deque[PendingCall] = field(default_factory=deque)
    unfinished: int = 0


class ContextQueue:
    """All lines, at most `most` of them active."""

    def __init__(self, most: int, ranked: Callable[[str], list[Endpoint]]) -> None:
        self._most = most
        self._ranked = ranked
        self._active: dict[str, QueuedContext] = {}  # contexts in flight
        self._ready: dict[str, QueuedContext] = {}  # those of them with calls to send
        self._waiting: dict[str, QueuedContext] = {}

    def join(self, call: PendingCall) -> None:
        """Put a new call at the end of its context's line; a new context goes to the end of all."""
        affinity = call.request.affinity
        line = self._active.get(affinity) or self._waiting.get(affinity)
        if line is None:
            line = self._waiting[affinity] = QueuedContext(affinity, self._ranked(affinity))
        line.queue.append(call)
        line.unfinished += 1
        if affinity in self._active:
            self._ready[affinity] = line

    def put_back(self, call: PendingCall, line: QueuedContext) -> None:
        """A call that was taken is to be sent again, before the others of its context."""
        line.queue.appendleft(call)
        self._ready[line.affinity] = line

    def leave(self, line: QueuedContext) -> None:
        """A call is over; its line is, too, when that was the last."""
        line.unfinished -= 1
        if line.unfinished == 0:
            self._active.pop(line.affinity, None)
            self._ready.pop(line.affinity, None)
            self._waiting.pop(line.affinity, None)

    def admit(self) -> bool:
        """Let lines in while there is room; whether any came in."""
        admitted = False
        while self._waiting and len(self._active) < self._most:
            affinity = next(iter(self._waiting))
            self._active[affinity] = self._ready[affinity] = self._waiting.pop(affinity)
            admitted = True
        return admitted

    def ready(self) -> list[QueuedContext]:
        """Active lines with calls to send, oldest first. A line whose calls were all taken is left out."""
        for affinity in [affinity for affinity, line in self._ready.items() if not line.queue]:
            del self._ready[affinity]
        return list(self._ready.values())

    def drain(self, concerned: Callable[[PendingCall], bool]) -> list[tuple[PendingCall, QueuedContext]]:
        """Take all waiting calls that are `concerned` out of their lines' queues; each is still to `leave`."""
        taken: list[tuple[PendingCall, QueuedContext]] = []
        for line in [*self._active.values(), *self._waiting.values()]:
            taken += [(call, line) for call in line.queue if concerned(call)]
            line.queue = deque(call for call in line.queue if not concerned(call))
        return taken
