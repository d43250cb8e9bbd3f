"""How many calls an endpoint may get at a time, and whether it can be reached: plain state, no input or output.

`AdaptiveLimit` is AIMD: additive increase by one call per round of successes, halving when the server is busy (Chiu
and Jain 1989, as in TCP). `Endpoint` adds a pause for Retry-After. An endpoint that cannot be reached gets no calls
for a back-off that grows exponentially; after it a single call, the probe, tries the endpoint first. A server that
Longmill starts again gets none until it is up. Times are seconds of a monotonic clock, passed in, so that tests need
not wait.
"""

import email.utils
import hashlib
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from infra.models.rates.window import RateWindow

MAX_BACKOFF_S = 30.0
RESTART_POLL_S = 1.0  # between two looks at a server that is being started again
MAX_RETRY_AFTER_S = 600.0  # a longer Retry-After is cut to this: every wait has a limit


class AdaptiveLimit:
    """How many calls may be in flight: 1 ≤ limit ≤ ceiling."""

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.in_flight = 0
        self._limit = float(ceiling)
        self._halvings = 0  # so far

    @property
    def limit(self) -> int:
        """Most calls at a time, now."""
        return int(self._limit)

    def has_room(self) -> bool:
        """Whether another call may start."""
        return self.in_flight < self.limit

    def start_call(self) -> int:
        """Count a call as in flight. Returns the number of halvings so far, which `halve` needs."""
        self.in_flight += 1
        return self._halvings

    def end_call(self) -> None:
        """A call has ended, with a reply or without."""
        self.in_flight -= 1

    def increase(self) -> None:
        """A call succeeded: `limit` successes raise the limit by one."""
        self._limit = min(float(self.ceiling), self._limit + 1.0 / self._limit)

    def halve(self, halvings: int) -> None:
        """The server is busy: halve the limit, once for all calls that started before the last halving."""
        if halvings == self._halvings:
            self._limit = max(1.0, self._limit / 2)
            self._halvings += 1


@dataclass(eq=False, slots=True)
class Endpoint:
    """One base URL: its limit, its pause and whether it can be reached."""

    url: str
    limit: AdaptiveLimit
    backoff_s: float
    paused_until: float = 0.0  # the server asked to wait
    unreachable_until: float = 0.0
    unreachable_count: int = 0  # connection failures in a row; 0 while the endpoint responds
    probing: bool = False  # the probe is in flight
    last_error: str = ""
    restarts: int = 0  # of its server, as last seen; grows where Longmill looks after it
    restarting: bool = False  # its server is being started again, or will be
    given_up: bool = False  # its server is not started again any more
    rate: RateWindow = field(default_factory=lambda: RateWindow(time.time() - time.monotonic()))
    _jitter: random.Random = field(default_factory=random.Random)

    def is_open(self, now: float) -> bool:
        """Whether calls may go here: it responds, or it is time for a probe."""
        return self.unreachable_count == 0 or (now >= self.unreachable_until and not self.probing)

    def has_room(self, now: float) -> bool:
        """Whether another call may start now."""
        return now >= self.paused_until and self.limit.has_room() and self.rate.has_room(now)

    def start_call(self) -> int:
        """Start a call here; returns the number of halvings for `limit.halve`."""
        self.probing = self.unreachable_count > 0
        self.rate.start_call()
        return self.limit.start_call()

    def mark_reachable(self) -> None:
        """It sent a response of whatever status, or its connection failures are to be forgotten."""
        self.unreachable_count = 0
        self.probing = self.restarting = self.given_up = False

    def wait_for_restart(self, now: float) -> None:
        """Its server is being started again: look again in a moment, and do not count it as lost."""
        self.unreachable_count = max(1, self.unreachable_count)
        self.probing = self.given_up = False
        self.restarting = True
        self.unreachable_until = now + RESTART_POLL_S

    def give_up(self, now: float, cause: str) -> None:
        """Its server is not started again any more."""
        self.last_error = cause
        self.unreachable_count = max(1, self.unreachable_count)
        self.probing = self.restarting = False
        self.given_up = True
        self.unreachable_until = now + MAX_BACKOFF_S

    def is_lost(self, attempts: int) -> bool:
        """Whether so many attempts in a row did not reach it, and nobody is about to start it again."""
        return self.given_up or (self.unreachable_count >= attempts and not self.restarting)

    def mark_unreachable(self, now: float, cause: str) -> None:
        """It could not be reached. Calls that were sent together count once."""
        self.last_error = cause
        if self.unreachable_count == 0 or self.probing:
            self.unreachable_count += 1
            self.probing = False
            wait = min(MAX_BACKOFF_S, self.backoff_s * 2.0 ** min(self.unreachable_count - 1, 32))
            self.unreachable_until = now + wait * self._jitter.uniform(0.5, 1.0)

    def end_probe(self) -> None:
        """A call ended and did not show whether the endpoint can be reached; another may be the probe."""
        self.probing = False

    def pause(self, now: float, seconds: float) -> None:
        """The server asked for no calls for so long."""
        self.paused_until = max(self.paused_until, now + min(seconds, MAX_RETRY_AFTER_S))

    def opens_at(self, now: float) -> float | None:
        """When the next wait ends, so that another call may go here; None when there is nothing to wait for."""
        times = [self.paused_until, self.rate.opens_at(now)]
        if self.unreachable_count and not self.probing:
            times.append(self.unreachable_until)
        return min((time for time in times if time > now), default=None)


def rank(endpoints: Sequence[Endpoint], affinity: str) -> list[Endpoint]:
    """Endpoints in the order of preference for a context (rendezvous hashing, Thaler and Ravishankar 1998).

    Each context has its own order, so losing an endpoint moves that endpoint's contexts only.
    """
    if len(endpoints) == 1:
        return list(endpoints)
    return sorted(
        endpoints,
        key=lambda endpoint: hashlib.blake2b(
            f"{endpoint.url}|{affinity}".encode("utf-8", "surrogatepass"), digest_size=8
        ).digest(),
        reverse=True,
    )


def backoff(attempt: int, base_s: float) -> float:
    """Seconds before attempt `attempt` + 1, attempt ≥ 1: full jitter in [0, base · 2^(attempt-1)], at most 30."""
    return random.uniform(0.0, min(MAX_BACKOFF_S, base_s * 2.0 ** min(attempt - 1, 32)))


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a server asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as an HTTP date.

    `headers` look names up in lower case. A date without a time zone is read as UTC. None when there is no such
    header, or none that can be read.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None:
        return max(0.0, seconds)
    try:
        date = email.utils.parsedate_to_datetime(value or "")
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
