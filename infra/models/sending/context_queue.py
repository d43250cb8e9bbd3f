"""The calls that wait, by context: first come, first served, a bounded number of contexts in flight.

A context is admitted when there is room and stays until its last call has ended. Its later calls join it meanwhile,
since the server still has the prefix in its cache. Used in one event loop; knows nothing of how a call is made.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from infra.models.sending.endpoint import Endpoint
from infra.models.sending.single_flight import PendingCall


@dataclass(eq=False, slots=True)
class QueuedContext:
    """The calls of one context: those that wait to be sent, and how many have not ended."""

    affinity: str
    ranking: list[Endpoint]  # in the order of preference
    queue: deque[PendingCall] = field(default_factory=deque)
    unfinished: int = 0


class ContextQueue:
    """All contexts with unfinished calls, at most `max_active` of them active."""

    def __init__(self, max_active: int, rank_endpoints: Callable[[str], list[Endpoint]]) -> None:
        self._max_active = max_active
        self._rank_endpoints = rank_endpoints
        self._active: dict[str, QueuedContext] = {}  # contexts in flight, by affinity
        self._ready: dict[str, QueuedContext] = {}  # active contexts with calls to send
        self._waiting: dict[str, QueuedContext] = {}  # contexts that are not admitted yet

    def add(self, call: PendingCall) -> None:
        """Put a new call at the end of its context's queue; a new context waits behind all others."""
        affinity = call.request.affinity
        context = self._active.get(affinity) or self._waiting.get(affinity)
        if context is None:
            context = self._waiting[affinity] = QueuedContext(affinity, self._rank_endpoints(affinity))
        context.queue.append(call)
        context.unfinished += 1
        if affinity in self._active:
            self._ready[affinity] = context

    def put_back(self, call: PendingCall, context: QueuedContext) -> None:
        """A call that was taken is to be sent again, before the others of its context."""
        context.queue.appendleft(call)
        self._ready[context.affinity] = context

    def finish_call(self, context: QueuedContext) -> None:
        """A call of the context has ended; after the last one the context leaves."""
        context.unfinished -= 1
        if context.unfinished == 0:
            self._active.pop(context.affinity, None)
            self._ready.pop(context.affinity, None)
            self._waiting.pop(context.affinity, None)

    def admit(self) -> bool:
        """Make waiting contexts active while there is room. True when at least one was admitted."""
        admitted = False
        while self._waiting and len(self._active) < self._max_active:
            affinity = next(iter(self._waiting))
            self._active[affinity] = self._ready[affinity] = self._waiting.pop(affinity)
            admitted = True
        return admitted

    def ready(self) -> list[QueuedContext]:
        """Active contexts with calls to send, oldest first."""
        for context in list(self._ready.values()):
            if not context.queue:
                del self._ready[context.affinity]
        return list(self._ready.values())

    def take_all(self, selected: Callable[[PendingCall], bool]) -> list[tuple[PendingCall, QueuedContext]]:
        """Take all `selected` calls out of the queues. The caller must still call `finish_call` for each."""
        taken: list[tuple[PendingCall, QueuedContext]] = []
        for context in [*self._active.values(), *self._waiting.values()]:
            remaining: deque[PendingCall] = deque()
            for call in context.queue:
                if selected(call):
                    taken.append((call, context))
                else:
                    remaining.append(call)
            context.queue = remaining
        return taken
