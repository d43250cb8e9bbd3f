"""How a model client's calls run, what goes with each, and who is told of them: what its scheduler is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from infra.models.budget import BudgetMeter
from infra.models.forms.settler import FormSettler
from infra.models.protocol import LedgerLike, Outcome, Request
from infra.models.rates.limiter import RateLimiter
from infra.models.refusals.recorded import RecordedRefusals
from infra.models.sending.single_flight import SingleFlight
from infra.models.thinking import Reasoning
from infra.models.usage import Usage, UsageReader
from infra.recipe import Price

_SHORTEST_SECRET = 8  # characters of a header's value; a shorter one is part of many words


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
    """What goes with every request: the key, how its body is written, further headers; and the record of refusals."""

    api_key: str | None
    api_key_env: str  # the variable that the key came from
    form: FormSettler
    headers: Mapping[str, str]
    rates: RateLimiter | None = None
    refusals: RecordedRefusals = field(default_factory=RecordedRefusals)

    def redact(self, text: str) -> str:
        """A text without the API key and the headers' values, which some servers repeat in their errors."""
        secrets = [value for value in self.headers.values() if len(value) >= _SHORTEST_SECRET]
        for secret in (self.api_key, *secrets):
            if secret:
                text = text.replace(secret, "[key]")
        return text


@dataclass(frozen=True, slots=True)
class CallListener:
    """What the scheduler calls: `ended` (request, outcome, usage of a paid reply or None), `retried` (request), `waits`
    (request, what it waits for; "" when calls go on).
    """

    ended: Callable[[Request, Outcome, Usage | None], None]
    retried: Callable[[Request], None]
    waits: Callable[[Request, str], None] = lambda request, text: None


@dataclass(frozen=True, slots=True)
class CallSettings:
    """All that a scheduler of a model's calls is given, whether it sends them one by one or as batches."""

    manner: RequestManner
    limits: CallLimits
    ledger: LedgerLike
    single_flight: SingleFlight
    meter: BudgetMeter | None
    price: Price
    listener: CallListener
    usage: UsageReader
    reasoning: Reasoning  # the recipe's key of the model
