"""How a model client's calls run, what goes with each, and who is told of them: what its scheduler is given."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from infra.ledger import Entry
from infra.models.form_settler import FormSettler
from infra.models.protocol import Outcome, Request

_SHORTEST_SECRET = 8  # characters


@dataclass(frozen=True, slots=True)
class CallLimits:
    """How the calls run; none of it changes a reply."""

    concurrency: int  # most calls in flight, over all endpoints
    contexts_in_flight: int
    timeout_s: float  # of one attempt
    attempts: int  # most attempts of one call
    backoff_s: float  # before the second attempt; doubles each time, with jitter
    try_first: bool = False  # send the first call alone


@dataclass(frozen=True, slots=True)
class RequestManner:
    """What goes with every request: the key, how its body is written, further headers."""

    api_key: str | None
    api_key_env: str  # the variable that the key came from
    form: FormSettler
    headers: Mapping[str, str]

    def secrets(self) -> Iterator[str]:
        """What no message may repeat; a shorter value of a header is none, and a part of many words."""
        if self.api_key:
            yield self.api_key
        for value in self.headers.values():
            if len(value) >= _SHORTEST_SECRET:
                yield value


@dataclass(frozen=True, slots=True)
class CallListener:
    """What the scheduler calls: `ended` (request, outcome, paid entry or None) and `retried` (request)."""

    ended: Callable[[Request, Outcome, Entry | None], None]
    retried: Callable[[Request], None]
