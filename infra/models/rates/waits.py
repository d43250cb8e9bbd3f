"""The waits for a rate, for the scheduler: the recipe's limits (rates.py) and those of an endpoint (rate_window.py)."""

import time
from collections.abc import Callable, Iterable

from infra.models.protocol import Request
from infra.models.rates.limiter import RateLimiter
from infra.models.rates.signals import is_of_a_minute, read_remaining, stated_wait
from infra.models.sending.call_settings import CallLimits
from infra.models.sending.endpoint import Endpoint
from infra.models.sending.single_flight import PendingCall
from infra.models.sending.transport import HttpResponse, Recordable, TemporaryFailure

UNEXPLAINED = 3  # attempts of a call with short back-offs, before a bare 429 is taken for a minute's limit
_OVERLOADED = (503, 529)  # of a server that is short of room, whoever calls
_SHORT_S = 5.0  # a wait that needs no word
_WORDS = 120  # characters of the server's, in a note


class RateWaits:
    """Decides what is a wait for a rate, and tells of it."""

    def __init__(self, limiter: RateLimiter | None, tell: Callable[[Request, str], None]) -> None:
        """`tell` gets a request and what its kind waits for, "" when calls go on."""
        self._limiter = limiter
        self._tell = tell
        self._waiting = False  # a word was said of it

    def connect(self, wake: Callable[[], None], fail: Callable[[Exception], None]) -> None:
        """As of the limiter."""
        if self._limiter is not None:
            self._limiter.connect(wake, fail)

    def has_room(self, request: Request) -> bool:
        """Whether the recipe's limits let a request be sent now; they call `wake` when they do."""
        if self._limiter is None or self._limiter.has_room():
            return True
        self._say(request, f"waits for its turn: {self._limiter.limits}")
        return False

    def spend(self, request: Request) -> None:
        """A request is sent."""
        if self._limiter is not None:
            self._limiter.spend(request)

    def take(self, endpoint: Endpoint, request: Request, result: Recordable) -> None:
        """An endpoint took a call."""
        tokens = result.completion.prompt_tokens + result.completion.completion_tokens
        endpoint.rate.take(tokens)
        if self._limiter is not None:
            self._limiter.correct(request, tokens)
        elif self._waiting:
            self._waiting = False
            self._tell(request, "")

    def read_headers(self, endpoint: Endpoint, response: HttpResponse) -> None:
        """Note what an endpoint says it has left."""
        remaining = read_remaining(response.headers, time.time())
        if remaining:
            endpoint.rate.state(remaining, time.monotonic(), endpoint.limit.in_flight - 1)

    @staticmethod
    def is_limit(call: PendingCall, response: HttpResponse, failure: TemporaryFailure) -> bool:
        """Whether a failure is the endpoint's rate limit, which asks for a wait and not for another attempt."""
        if not failure.busy or response.status in _OVERLOADED:
            return False
        stated = _stated(response, failure) is not None
        return stated or is_of_a_minute(failure.detail) or call.failed_attempts >= UNEXPLAINED

    def wait(
        self,
        request: Request,
        endpoint: Endpoint,
        halvings: int,
        response: HttpResponse,
        failure: TemporaryFailure,
        redact: Callable[[str], str],
    ) -> None:
        """Let the endpoint wait for as long as it has stated, or for the next minute.

        `halvings` of its limit when the call began. `redact` takes secrets out of the server's words.
        """
        stated_s = _stated(response, failure)
        if stated_s is not None:  # what it limits may be the calls at a time
            endpoint.limit.halve(halvings)
        seconds = endpoint.rate.refuse(time.monotonic(), stated_s)
        if seconds >= _SHORT_S:
            words = redact(failure.detail)[:_WORDS]
            self._say(request, f"waits {seconds:.0f} s for the server's rate limit ({words})")

    @staticmethod
    def are_stalled(endpoints: Iterable[Endpoint], limits: CallLimits) -> bool:
        """Whether no endpoint takes any call, for so long that waiting has no end."""
        now = time.monotonic()
        return all(endpoint.rate.is_stalled(now, limits.attempts, limits.timeout_s) for endpoint in endpoints)

    def _say(self, request: Request, text: str) -> None:
        if not self._waiting:
            self._waiting = True
            self._tell(request, text)

    async def close(self) -> None:
        """End the limiter's claims."""
        if self._limiter is not None:
            await self._limiter.close()


def _stated(response: HttpResponse, failure: TemporaryFailure) -> float | None:
    """Seconds that the server asks to wait; None when it does not say."""
    if failure.wait_s is not None:
        return failure.wait_s
    return stated_wait(response.headers, failure.detail, time.time())
