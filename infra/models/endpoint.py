"""How fast an endpoint may be used, and whether it is there at all: plain state, no input or output.

`AdaptiveLimit` is AIMD: additive increase of one call per round of successes, halving on push-back (Chiu and
Jain 1989, as in TCP). `Endpoint` adds a pause for Retry-After, and sets an endpoint that refuses connections
aside with exponential back-off; when that is over, a single call tries it first. Times are seconds of a
monotonic clock, passed in, so that tests need no waiting.
"""

import email.utils
import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

MAX_BACKOFF_S = 30.0
MAX_RETRY_AFTER_S = 600.0  # a longer wish is cut to this: every wait has a limit


class AdaptiveLimit:
    """How many calls may be in flight: 1 ≤ limit ≤ ceiling."""

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.in_flight = 0
        self._limit = float(ceiling)
        self._era = 0  # number of halvings so far

    @property
    def limit(self) -> int:
        return int(self._limit)

    def has_room(self) -> bool:
        return self.in_flight < self.limit

    def take(self) -> int:
        """Start a call; the returned era goes back with `push_back`."""
        self.in_flight += 1
        return self._era

    def give(self) -> None:
        """A call has ended, one way or another."""
        self.in_flight -= 1

    def grow(self) -> None:
        """A call succeeded: `limit` successes raise the limit by one."""
        self._limit = min(float(self.ceiling), self._limit + 1.0 / self._limit)

    def push_back(self, era: int) -> None:
        """The server is busy: halve, once for all the calls that were sent before the last halving."""
        if era == self._era:
            self._limit = max(1.0, self._limit / 2)
            self._era += 1


@dataclass(eq=False, slots=True)
class Endpoint:
    """One base URL: its limit, its pause and its health."""

    url: str
    limit: AdaptiveLimit
    backoff_s: float
    paused_until: float = 0.0
    aside_until: float = 0.0
    refusals: int = 0  # in a row; 0 while the endpoint answers
    probing: bool = False
    last_error: str = ""
    _jitter: random.Random = field(default_factory=random.Random)

    def is_open(self, now: float) -> bool:
        """Whether calls may go here: it answers, or it is time to try one."""
        return self.refusals == 0 or (now >= self.aside_until and not self.probing)

    def has_room(self, now: float) -> bool:
        return now >= self.paused_until and self.limit.has_room()

    def begin(self) -> int:
        """Start a call here; returns the era for `push_back`. The first one after a refusal is a probe."""
        self.probing = self.refusals > 0
        return self.limit.take()

    def answered(self) -> None:
        """It sent a response of whatever status: it is there."""
        self.refusals = 0
        self.probing = False

    def refused(self, now: float, why: str) -> None:
        """It could not be reached. Calls that were sent together count as one refusal."""
        self.last_error = why
        if self.refusals == 0 or self.probing:
            self.refusals += 1
            self.probing = False
            wait = min(MAX_BACKOFF_S, self.backoff_s * 2.0 ** min(self.refusals - 1, 32))
            self.aside_until = now + wait * self._jitter.uniform(0.5, 1.0)

    def abandoned(self) -> None:
        """The call in flight ended without a word about the endpoint; another may probe."""
        self.probing = False

    def pause(self, now: float, seconds: float) -> None:
        """The server asked to be left alone for so long."""
        self.paused_until = max(self.paused_until, now + min(seconds, MAX_RETRY_AFTER_S))

    def wakes_at(self, now: float) -> float | None:
        """When time alone may let another call go here; None when only an answer can."""
        aside = self.aside_until if self.refusals and not self.probing else 0.0
        return min((at for at in (aside, self.paused_until) if at > now), default=None)

    def forgive(self) -> None:
        """Forget the refusals: whoever comes next tries afresh."""
        self.refusals = 0
        self.probing = False


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
    """Seconds before try `attempt` + 1, attempt ≥ 1: full jitter in [0, base · 2^(attempt-1)], at most 30."""
    return random.uniform(0.0, min(MAX_BACKOFF_S, base_s * 2.0 ** min(attempt - 1, 32)))


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a server asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as an HTTP date.

    `headers` look names up in lower case. None when there is no such wish, or one that cannot be read.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None:
        return max(0.0, seconds)
    try:
        at = email.utils.parsedate_to_datetime(value or "")
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if value == value and value not in (float("inf"), float("-inf")) else None
