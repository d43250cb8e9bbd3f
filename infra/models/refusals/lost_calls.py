"""Calls that fail every time while others succeed: when they are given up, so that they hold up no dataset.

A call that has used up its attempts fails its Prefect task, which is run again: the next attempts may bring a reply,
and a dataset must not depend on the state of a network. But some servers break on one prompt each time they see it.
Such a call is given up after its last round of attempts, if the rounds took a minute or more and enough other calls
have succeeded meanwhile; or at once, where a person says so (`--drop-failed`). It is recorded like a refusal of the
prompt, so that `--retry-drops` makes it again. A server that cannot be reached or is busy says nothing of the prompt.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from infra.canonical import canonical_json
from infra.ledger import Entry
from infra.models.protocol import Failure, Request, new_entry
from infra.models.refusals.recorded import RecordedRefusals

_STATUS = 599  # of the ledger entries of such calls: the server's own may have been any other, or none
_ABOUT_THE_PROMPT = frozenset({"server_error", "bad_reply", "timeout", "connection"})


@dataclass(slots=True)
class _FailedCall:
    """What is known of a call that has failed before."""

    since: float  # seconds, of the clock
    successes: int  # of other calls, when it failed first
    rounds: int = 0
    last: Failure | None = None


class LostCalls:
    """The calls of a model that have used up their attempts at least once. Thread-safe."""

    def __init__(
        self,
        rounds: int,
        *,
        at_once: bool = False,
        least_s: float = 60.0,
        least_successes: int = 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`rounds` of attempts that a call gets; `least_successes` of other calls to the same model meanwhile."""
        self._rounds = rounds
        self._at_once = at_once
        self._least_s = least_s
        self._least_successes = least_successes
        self._clock = clock
        self._calls: dict[str, _FailedCall] = {}  # by key
        self._lock = threading.Lock()

    def is_lost(self, request: Request, failure: Failure, successes: int) -> bool:
        """Count a failure, once however many threads have waited for it; whether its call is given up.

        `successes`: calls of the model that have brought a reply in this run.
        """
        if request.has_alternative or failure.permanent or failure.reason not in _ABOUT_THE_PROMPT:
            return False
        if self._at_once:
            return True
        now = self._clock()
        with self._lock:
            call = self._calls.setdefault(request.key, _FailedCall(now, successes))
            if failure is not call.last:
                call.last = failure
                call.rounds += 1
            enough = successes - call.successes >= self._least_successes and now - call.since >= self._least_s
            return call.rounds >= self._rounds and enough


def lost_entry(request: Request, failure: Failure, refusals: RecordedRefusals) -> Entry:
    """What the ledger keeps of a call that is given up."""
    body = canonical_json({"error": {"message": f"{failure.reason}: {failure.detail}"}}).decode()
    reply = refusals.to_record(body, request.model, failure.endpoint, request.key)
    return new_entry(request, _STATUS, reply, 0.0)
