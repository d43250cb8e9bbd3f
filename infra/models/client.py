"""The model client: many threads ask, one event loop calls, the ledger remembers.

`ModelClient.complete` looks its requests up in the ledger, which is free, sends the rest through the loop of
one background thread (`infra/dispatch.py`), and returns replies in the order of the requests. A reply is
durable in the ledger before anybody sees it; a request that several threads ask for at once is paid once.
What it leaves out: meaning. Prompts, seeds and what to do with a failure are the steps' matter.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from infra.canonical import canonical
from infra.errors import BudgetReached, ModelError, RecipeError
from infra.ledger import Entry
from infra.models.budget import BudgetMeter
from infra.models.protocol import Failure, LedgerLike, Outcome, Prompt, Reply, Request, parse_reply, read_completion
from infra.models.scheduler import CallLimits, CallListener, Scheduler
from infra.models.single_flight import CallBatch, PendingCall, SingleFlight
from infra.recipe import Budget, Price

__all__ = [
    "CallCounts",
    "Failure",
    "LedgerLike",
    "ModelClient",
    "Outcome",
    "Prompt",
    "Reply",
    "Request",
    "parse_reply",
    "read_completion",
]

_GRACE_S = 5.0  # for calls in flight, when the client closes or is interrupted
_FREE = Price()


@dataclass(frozen=True, slots=True)
class CallCounts:
    """Calls of one kind by what became of them, and the tokens of the replies."""

    made: int = 0  # paid for by this client
    reused: int = 0  # from the ledger, or shared with another request of this client
    retried: int = 0  # tries repeated after a passing fault
    failed: int = 0  # ended in a Failure now
    prompt_tokens: int = 0  # of the calls made
    completion_tokens: int = 0
    reused_prompt_tokens: int = 0
    reused_completion_tokens: int = 0

    def plus(self, **more: int) -> "CallCounts":
        return replace(self, **{name: getattr(self, name) + value for name, value in more.items()})


class ModelClient:
    """Calls to the endpoints of one model. `complete` may be called from any number of threads."""

    def __init__(
        self,
        endpoints: Sequence[str],
        api_key: str | None,
        ledger: LedgerLike,
        *,
        concurrency: int = 64,
        contexts_in_flight: int = 16,
        timeout_s: float = 600.0,
        attempts: int = 6,
        budget: Budget | BudgetMeter | None = None,
        price: Price = _FREE,
        api_key_env: str = "OPENAI_API_KEY",
        progress: Callable[[str, int], None] | None = None,
        backoff_s: float = 1.0,
    ) -> None:
        """Clients that share a budget share a Meter; `progress` is told (kind, calls done) from any thread.

        Raises RecipeError for an endpoint that is no URL.
        """
        urls = list(dict.fromkeys(_checked(url) for url in endpoints))
        if not urls:
            raise RecipeError("the model has no endpoint: give base URLs ending in /v1 under `endpoints`, or `serve`")
        self._ledger = ledger
        self._meter = meter = BudgetMeter(budget) if isinstance(budget, Budget) else budget
        self._price = price
        self._progress = progress
        self._claims = SingleFlight()
        self._lock = threading.Lock()
        self._counts: dict[str, CallCounts] = {}
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="model-client", daemon=True)
        self._thread.start()
        pace = CallLimits(concurrency, contexts_in_flight, timeout_s, attempts, backoff_s)
        reporting = CallListener(self._ended, self._retried)

        async def made() -> Scheduler:
            key = api_key, api_key_env
            return Scheduler(urls, key, pace, ledger, self._claims, meter, price, reporting)

        self._dispatcher = self._in_loop(made()).result(30)

    def complete(self, requests: Sequence[Request]) -> list[Outcome]:
        """The outcome of each request, in their order; blocks until all are there.

        Raises BudgetReached when a call could not be sent for lack of budget, ModelError when no endpoint can be
        reached or one refuses the key or the model, LedgerError or StoreError when the ledger fails; always after
        the calls in flight have ended and their replies are recorded.
        """
        batch, own = self._claims.claim(requests)
        with self._returning(own):
            self._submit(self._take_hits(own))
        try:
            while not batch.done.wait(1.0):  # in slices, so that Prefect can cancel a task's thread
                pass
        except BaseException:
            self._abandon(batch, requests)
            raise
        if isinstance(batch.error, BudgetReached) and self._meter is not None:
            raise self._meter.error()
        if batch.error is not None:
            raise batch.error
        return self._in_order(requests, batch, {call.request.key for call in own})

    def counts(self) -> dict[str, CallCounts]:
        """A snapshot of the counters by kind of call."""
        with self._lock:
            return dict(self._counts)

    def count_reused(self, kind: str, key: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Count a reply that stands in a finished result: it is reused, and spent, without a look at the ledger."""
        self.spend(key, prompt_tokens, completion_tokens)
        self._count(kind, reused=1, reused_prompt_tokens=prompt_tokens, reused_completion_tokens=completion_tokens)
        self._advance(kind)

    def keep_refusal(self, request: Request, failure: Failure) -> None:
        """Record that the server refuses this request as it stands, so that no run sends it again; durable on return.

        For a caller that has another way: other refusals may be a matter of configuration and are not recorded.
        """
        if self._ledger.lookup([request.key]):
            return
        body = canonical({"error": {"message": failure.detail}}).decode()
        entry = Entry(
            key=request.key,
            kind=request.kind,
            model=request.model,
            revision=request.revision,
            status=400,
            reply=body,
            prompt_tokens=0,
            completion_tokens=0,
            seconds=0.0,
            created=time.time(),
        )
        self._in_loop(self._ledger.record(entry)).result()

    def spend(self, key: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Count a reply that another process paid for as spent, each key once."""
        if self._meter is not None:
            self._meter.spend(key, prompt_tokens, completion_tokens, self._price)

    def close(self) -> None:
        """End what waits, give calls in flight a few seconds to be recorded, and hang up."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._in_loop(self._dispatcher.close(_GRACE_S)).result(_GRACE_S + 10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        if not self._thread.is_alive():
            self._loop.close()

    def __enter__(self) -> "ModelClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take_hits(self, own: list[PendingCall]) -> list[PendingCall]:
        """End the calls whose reply the ledger holds; the rest, in their order."""
        held = self._ledger.lookup([call.request.key for call in own]) if own else {}
        outcomes = {key: parse_reply(entry) for key, entry in held.items()}
        fresh = []
        for call in own:
            entry = held.get(call.request.key)
            if entry is None:
                fresh.append(call)
                continue
            if self._meter is not None:
                self._meter.spend(entry.key, entry.prompt_tokens, entry.completion_tokens, self._price)
            self._reused(call.request, entry.prompt_tokens, entry.completion_tokens)
            self._claims.finish(call, outcomes[entry.key])
        return fresh

    def _submit(self, calls: list[PendingCall]) -> None:
        """Hand calls to the loop. Under the lock, so that none comes after `close` and waits for ever."""
        with self._lock:
            if self._closed:
                raise ModelError("this model client is closed; make another one")
            self._loop.call_soon_threadsafe(self._dispatcher.submit, calls)

    @contextlib.contextmanager
    def _returning(self, claimed: list[PendingCall]) -> Iterator[None]:
        """Give claims back when the block fails, so that whoever shares them hears of it."""
        try:
            yield
        except BaseException as error:
            passed_on = error if isinstance(error, Exception) else ModelError("the thread that made a call was stopped")
            for call in claimed:
                self._claims.finish(call, passed_on)
            raise

    def _abandon(self, batch: CallBatch, requests: Sequence[Request]) -> None:
        """The calling thread is interrupted: take back what is not in flight, wait a little for the rest."""
        self._claims.withdraw(batch, {request.key for request in requests})
        with self._lock:
            if not self._closed:
                self._loop.call_soon_threadsafe(self._dispatcher.pump)
        batch.done.wait(_GRACE_S)

    def _in_order(self, requests: Sequence[Request], batch: CallBatch, own: set[str]) -> list[Outcome]:
        """Outcomes by request. The first to ask for a key has paid for it; others share it."""
        outcomes = []
        for request in requests:
            outcome = batch.outcomes[request.key]
            if request.key in own:
                own.remove(request.key)
            elif isinstance(outcome, Reply):
                self._reused(request, outcome.prompt_tokens, outcome.completion_tokens)
                outcome = replace(outcome, reused=True)
            outcomes.append(outcome)
        return outcomes

    def _reused(self, request: Request, prompt_tokens: int, completion_tokens: int) -> None:
        self._count(
            request.kind, reused=1, reused_prompt_tokens=prompt_tokens, reused_completion_tokens=completion_tokens
        )
        self._advance(request.kind)

    def _ended(self, request: Request, outcome: Outcome, paid: Entry | None) -> None:
        if isinstance(outcome, Failure) or paid is None:
            self._count(request.kind, failed=1)
        else:
            tokens = {"prompt_tokens": paid.prompt_tokens, "completion_tokens": paid.completion_tokens}
            self._count(request.kind, made=1, **tokens)
        self._advance(request.kind)

    def _retried(self, request: Request) -> None:
        self._count(request.kind, retried=1)

    def _count(self, kind: str, **more: int) -> None:
        with self._lock:
            self._counts[kind] = self._counts.get(kind, CallCounts()).plus(**more)

    def _advance(self, kind: str) -> None:
        if self._progress is not None:
            self._progress(kind, 1)

    def _in_loop(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop)


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise RecipeError(f"endpoint {url!r} is no URL: give a base URL such as http://127.0.0.1:8000/v1")
    return url.rstrip("/")
