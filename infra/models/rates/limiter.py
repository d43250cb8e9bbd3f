"""The recipe's limits on a model's requests and tokens in a minute, over all processes that work with one store.

The time of the epoch is cut into shares of one second. A process claims a share by a file that it is the first to
write (`Store.put_if_absent`), and may then send what the share holds. So processes share a limit without a server
between them, at a few small writes a second at most, and calls are spread over the minute. What a call will cost in
tokens is estimated before it (a token for four bytes, and its max_tokens) and corrected by its reply: an allowance of
tokens may go below zero, and the next calls wait for it. Unused allowance of up to five seconds is saved, so that a
minute may have a twelfth more than the limit. Clocks of machines that share a limit must agree to a second.
Prefect's global limits are not used: they cost a request for every call, and live in the server of one command.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from infra.canonical import fingerprint
from infra.errors import StoreError
from infra.models.protocol import Request
from infra.models.tokens import estimated_tokens
from infra.store import Store

FOLDER = "rates"  # in the store
SLOT_S = 2  # seconds for whose shares processes compete
SHARES = 2  # of a slot
SAVED_S = 5.0  # allowance of so many seconds is saved
_OLD_S = 120  # after which a share's file is removed


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Most requests and tokens in a minute; None: no limit."""

    requests: int | None = None
    tokens: int | None = None

    def __str__(self) -> str:
        parts = []
        if self.requests is not None:
            parts.append(f"{self.requests:,} requests")
        if self.tokens is not None:
            parts.append(f"{self.tokens:,} tokens")
        return f"at most {' and '.join(parts)} a minute"


class Claims(Protocol):
    """Who may use a share."""

    def claim(self, share: int) -> bool:
        """True for one process alone."""
        ...


class OwnClaims:
    """The claims of a process that shares its limits with no other."""

    def claim(self, share: int) -> bool:
        return True


class StoreClaims:
    """Claims by files in the store, of all processes that call one model at the same endpoints."""

    def __init__(self, store: Store, model: str, endpoints: Sequence[str]) -> None:
        self._store = store
        self._folder = f"{FOLDER}/{fingerprint([model, sorted(endpoints)])[:16]}"
        self._cleared = 0  # shares below this one are removed

    def claim(self, share: int) -> bool:
        """True for the first process. Raises StoreError."""
        if not self._store.put_if_absent(f"{self._folder}/{share}", b"claimed"):
            return False
        old = share - _OLD_S * SHARES // SLOT_S
        if self._cleared == 0:
            names = (path.rpartition("/")[2] for path in self._store.list(self._folder))
            olds = [name for name in names if name.isdigit() and int(name) < old]
            self._store.delete(*(f"{self._folder}/{name}" for name in olds))
        elif self._cleared < old:
            self._store.delete(*(f"{self._folder}/{number}" for number in range(self._cleared, old)))
        self._cleared = max(self._cleared, old)
        return True


class RateLimiter:
    """What this process may send of a model's requests and tokens. Used in one event loop."""

    def __init__(
        self,
        limits: RateLimits,
        claims: Claims,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`clock` gives the time of the epoch in seconds, which all processes share."""
        self.limits = limits
        self._claims = claims
        self._clock = clock
        self._sleep = sleep
        self._requests = 0.0  # that may be sent
        self._tokens = 0.0
        self._next_share = 0
        self._demand = False
        self._task: asyncio.Task[None] | None = None
        self._wake: Callable[[], None] = lambda: None
        self._fail: Callable[[Exception], None] = lambda error: None

    def connect(self, wake: Callable[[], None], fail: Callable[[Exception], None]) -> None:
        """`wake` is called when calls may be sent again, `fail` with a StoreError of the claims."""
        self._wake, self._fail = wake, fail

    def has_room(self) -> bool:
        """Whether a call may be sent now; if not, a share is claimed, and `wake` called."""
        enough_requests = self.limits.requests is None or self._requests >= 1
        if enough_requests and (self.limits.tokens is None or self._tokens > 0):
            return True
        self._demand = True
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._claim_while_needed())
        return False

    def spend(self, request: Request) -> None:
        """A request is sent."""
        self._requests -= 1
        self._tokens -= tokens_of_call(request)

    def correct(self, request: Request, tokens: int) -> None:
        """A reply had so many tokens, prompt and output; 0 where the server does not count."""
        if tokens:
            self._tokens += tokens_of_call(request) - tokens

    async def close(self) -> None:
        """End the claims."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _claim_while_needed(self) -> None:
        try:
            while self._demand:
                self._demand = False
                share = await asyncio.to_thread(self._claim_one)
                if share is None:
                    self._demand = True
                    now = self._clock()
                    await self._sleep(SLOT_S * (now // SLOT_S + 1) - now)
                    continue
                requests, tokens = share_of(share, self.limits)
                self._requests = min(self._requests, self._saved(self.limits.requests)) + requests
                self._tokens = min(self._tokens, self._saved(self.limits.tokens)) + tokens
                self._wake()
        except StoreError as error:
            self._fail(error)
        finally:
            self._task = None

    def _claim_one(self) -> int | None:
        """Claim the next free share of the current slot that holds anything; None when there is none."""
        first = int(self._clock() // SLOT_S) * SHARES
        self._next_share = max(self._next_share, first)
        while self._next_share < first + SHARES:
            share = self._next_share
            self._next_share += 1
            if any(share_of(share, self.limits)) and self._claims.claim(share):
                return share
        return None

    @staticmethod
    def _saved(limit: int | None) -> float:
        return max(1.0, (limit or 0) * SAVED_S / 60)


def share_of(share: int, limits: RateLimits) -> tuple[int, int]:
    """Requests and tokens of a share; sums over a minute are the limits."""
    shares = 60 * SHARES // SLOT_S  # of a minute
    amounts = []
    for limit in (limits.requests or 0, limits.tokens or 0):
        amounts.append(limit * (share + 1) // shares - limit * share // shares)
    return amounts[0], amounts[1]


def tokens_of_call(request: Request) -> int:
    """Tokens that a request will cost, at most about: its prompt's and its whole answer's."""
    longest = request.parameters.get("max_tokens", 0)
    return estimated_tokens(request.prompt.encoded) + (longest if isinstance(longest, int) else 0)
