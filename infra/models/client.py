"""The model client: requests from many threads, calls from one event loop, replies in the ledger.

`ModelClient.complete` looks its requests up in the ledger, which is free, sends the rest in the event loop of one
background thread (see scheduler.py), and returns the outcomes in the order of the requests. A reply is durable in
the ledger before it is returned. A request that several threads make at the same time is paid once. What it leaves
out: prompts, seeds and what to do with a failure.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, TypeVar

from infra.canonical import canonical_json
from infra.errors import BudgetReached, LongmillError, ModelError, RecipeError
from infra.ledger import Entry
from infra.models.batches.scheduler import Batching, BatchScheduler
from infra.models.budget import BudgetMeter
from infra.models.call_spans import add_call_spans
from infra.models.forms.settler import FormSettler
from infra.models.protocol import Failure, LedgerLike, Outcome, Prompt, Reply, Request, new_entry, parse_reply
from infra.models.rates.limiter import RateLimiter
from infra.models.refusals.lost_calls import LostCalls, lost_entry
from infra.models.refusals.recorded import RecordedRefusals
from infra.models.sending.call_settings import CallLimits, CallListener, CallSettings, RequestManner
from infra.models.sending.scheduler import Scheduler
from infra.models.sending.single_flight import CallBatch, PendingCall, SingleFlight
from infra.models.thinking import Reasoning
from infra.models.usage import TokenCounter, Usage, UsageReader
from infra.recipe import Budget, Price
from infra.running.stopping import next_signal_ends
from infra.running.telemetry import is_on

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
]

_FREE = Price()
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class CallCounts:
    """Calls of one kind by what became of them, and the tokens of the replies."""

    made: int = 0  # paid for by this client
    reused: int = 0  # from the ledger, or shared with another request of this client
    retried: int = 0  # attempts repeated after a temporary failure
    failed: int = 0  # ended in a Failure just now, not read from the ledger
    prompt_tokens: int = 0  # of the calls made
    completion_tokens: int = 0
    reused_prompt_tokens: int = 0
    reused_completion_tokens: int = 0
    reasoning_tokens: int = 0  # of completion_tokens: what was spent on thinking, by the calls made
    special_tokens: int = 0  # cut from the ends of the texts, by the calls made
    counted_here: int = 0  # replies, made or reused, for which the server has sent no usage
    cached_prompt_tokens: int = 0  # of prompt_tokens: from the server's cache, where it says so

    def plus(self, **more: int) -> "CallCounts":
        """The counts with `more` added, by field."""
        sums = {}
        for name, value in more.items():
            sums[name] = getattr(self, name) + value
        return replace(self, **sums)


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
        reasoning: Reasoning = "auto",
        counter: TokenCounter | None = None,
        form: FormSettler | None = None,
        headers: Mapping[str, str] | None = None,
        try_first: bool = False,
        rates: RateLimiter | None = None,
        waits: Callable[[str, str], None] | None = None,
        failed: Callable[[str, Failure], None] | None = None,
        refusals: RecordedRefusals | None = None,
        lost: LostCalls | None = None,
        grace_s: float = 5.0,
        batching: Batching | None = None,
    ) -> None:
        """`endpoints` are base URLs ending in /v1; the limits are those of `CallLimits`.

        `reasoning` says what becomes of the model's thinking; `counter` counts tokens where the server does not.
        `form` is how requests are written, `headers` come on top of the usual ones. With `try_first` the first call is
        sent alone, so that a server which takes no such request refuses one and not many.
        `rates` limits what is sent in a minute; `waits` is called with a kind of call and what it waits for, "" when
        calls go on; `failed` with a kind of call and how one ended without a reply. With `batching` the calls are sent
        to the one endpoint as batches. `refusals` decides which recorded refusals are tried again, `lost` which calls
        that keep failing are given up; without them none is.
        When the client closes or is interrupted, calls in flight get `grace_s` seconds to be recorded.
        Clients that share a budget share a BudgetMeter. `progress` is called with the kind and the number of calls
        that ended, from any thread. Raises RecipeError for an endpoint that is no URL.
        """
        urls = list(dict.fromkeys(map(_checked, endpoints)))
        if not urls:
            raise RecipeError("the model has no endpoint: give base URLs ending in /v1 under `endpoints`, or `serve`")
        self._ledger = ledger
        self._meter = meter = BudgetMeter(budget) if isinstance(budget, Budget) else budget
        self._price = price
        self._progress = progress
        self._waits = waits
        self._failed = failed
        self._grace_s = grace_s
        self._reasoning: Reasoning = reasoning
        self._usage = usage = UsageReader(counter)
        self._single_flight = SingleFlight()
        self._lock = threading.Lock()  # over the counts, `_closed` and `_stopped`
        self._counts: dict[str, CallCounts] = {}
        self._closed = False
        self._stopped: Exception | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="model-client", daemon=True)
        self._thread.start()
        self._form = form or FormSettler()
        self._refusals = refusals or RecordedRefusals()
        self._lost = lost
        limits = CallLimits(concurrency, contexts_in_flight, timeout_s, attempts, backoff_s, try_first)
        listener = CallListener(self._count_ended, self._count_retried, self._report_wait)
        manner = RequestManner(api_key, api_key_env, self._form, dict(headers or {}), rates, self._refusals)
        settings = CallSettings(manner, limits, ledger, self._single_flight, meter, price, listener, usage, reasoning)

        async def new_scheduler() -> Scheduler | BatchScheduler:
            return Scheduler(urls, settings) if batching is None else BatchScheduler(urls[0], batching, settings)

        self._scheduler = self._run_in_loop(new_scheduler()).result(30)

    def complete(self, requests: Sequence[Request]) -> list[Outcome]:
        """The outcome of each request, in their order; blocks until all calls have ended.

        Raises BudgetReached when a call could not be sent for lack of budget, ModelError when no endpoint can be
        reached, RefusedError when one refuses the account, the model or the form of the request, LedgerError or
        StoreError when the ledger fails, and the error of `stop`; always after the calls in flight have ended and
        their replies are recorded.
        """
        started_ns = time.time_ns()
        outcomes = self._outcomes(requests)
        if is_on():
            add_call_spans(requests, outcomes, self._price, started_ns)
        return outcomes

    def _outcomes(self, requests: Sequence[Request]) -> list[Outcome]:
        batch, new_calls = self._single_flight.register(requests)
        try:
            self._submit(self._finish_recorded(new_calls))
        except BaseException as error:
            reason = error if isinstance(error, Exception) else ModelError("the thread that made a call was stopped")
            for call in new_calls:  # other threads may wait for them
                self._single_flight.finish(call, reason)
            raise
        try:
            while not batch.done.wait(1.0):  # in slices, so that Prefect can cancel a task's thread
                pass
        except BaseException:
            self._cancel(batch, requests)
            raise
        if isinstance(batch.error, BudgetReached) and self._meter is not None:
            raise self._meter.error()
        if batch.error is not None:
            raise batch.error
        outcomes = self._in_order(requests, batch, {call.request.key for call in new_calls})
        return self._without_lost(requests, outcomes)

    def settled(self) -> list[str]:
        """What the server's refusals have changed in the form of the requests, a line each."""
        return list(self._form.lines)

    def counts(self) -> dict[str, CallCounts]:
        """A snapshot of the counters by kind of call."""
        with self._lock:
            return dict(self._counts)

    @property
    def in_flight(self) -> int:
        """Calls that the server has now, or that are about to be recorded."""
        return self._scheduler.in_flight

    def count_reused(self, kind: str, key: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Count a reply that a finished result already holds as reused and as spent, without a look at the ledger."""
        self.spend(key, prompt_tokens, completion_tokens)
        self._count_shared(kind, Usage(prompt_tokens, completion_tokens))

    def count_entry(self, prompt: Prompt, entry: Entry) -> None:
        """Count a reply of the ledger, to such a prompt, as reused and as spent."""
        self._count_shared(entry.kind, self.spend_entry(prompt, entry))

    def spend_entry(self, prompt: Prompt, entry: Entry) -> Usage:
        """Count a reply of the ledger, to such a prompt, as spent; returns its tokens."""
        usage = self.usage_of(prompt, entry)
        self.spend(entry.key, usage.prompt_tokens, usage.completion_tokens)
        return usage

    def usage_of(self, prompt: Prompt, entry: Entry) -> Usage:
        """The tokens of a reply of the ledger to such a prompt; what the server has left out is counted."""
        return self._usage.of_entry(prompt, entry)

    def count_reused_sum(self, kind: str, calls: int, prompt_tokens: int, completion_tokens: int) -> None:
        """Count so many replies, of which a finished result holds the sums alone, as reused."""
        self._count(kind, reused=calls, reused_prompt_tokens=prompt_tokens, reused_completion_tokens=completion_tokens)
        self._report_progress(kind, calls)

    def record_refusal(self, request: Request, failure: Failure) -> None:
        """Record that the server refuses this request as it stands, so that no run sends it again; durable on return.

        For a caller that has another way to get its result. A refusal of the form is not recorded otherwise, since it
        comes from the server's configuration.
        """
        if self._ledger.lookup([request.key]):
            return
        body = canonical_json({"error": {"message": failure.detail}}).decode()
        entry = new_entry(request, 400, body, 0.0)
        self._run_in_loop(self._ledger.record(entry)).result()

    def _without_lost(self, requests: Sequence[Request], outcomes: list[Outcome]) -> list[Outcome]:
        """The outcomes; calls that are given up get a permanent one, which is in the ledger on return."""
        if self._lost is None:
            return outcomes
        for place, (request, outcome) in enumerate(zip(requests, outcomes, strict=True)):
            if isinstance(outcome, Failure) and not outcome.permanent:
                successes = sum(counts.made for counts in self.counts().values())
                if self._lost.is_lost(request, outcome, successes):
                    entry = lost_entry(request, outcome, self._refusals)
                    self._run_in_loop(self._ledger.record(entry)).result()
                    outcomes[place] = parse_reply(entry)
        return outcomes

    def spend(self, key: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Count a reply that another process paid for as spent, each key once."""
        if self._meter is not None:
            self._meter.spend(key, prompt_tokens, completion_tokens, self._price)

    def spend_sum(self, name: str, calls: int, prompt_tokens: int, completion_tokens: int) -> None:
        """Count replies that were paid for elsewhere as spent, by their sums; the same name counts once."""
        if self._meter is not None:
            self._meter.spend_sum(name, calls, prompt_tokens, completion_tokens, self._price)

    def forget_sum(self, name: str) -> None:
        """Undo `spend_sum`, because the replies will be counted one by one."""
        if self._meter is not None:
            self._meter.forget_sum(name)

    def stop(self, error: LongmillError) -> None:
        """Send no call from now on: those that are not in flight end with `error`. Does not wait."""
        with self._lock:
            self._stopped = self._stopped or error
            if not self._closed:
                self._loop.call_soon_threadsafe(self._scheduler.stop, error)

    def close(self, grace_s: float | None = None) -> None:
        """End the waiting calls, give calls in flight `grace_s` seconds (its own) to be recorded, and disconnect."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        grace_s = self._grace_s if grace_s is None else grace_s
        self._run_in_loop(self._scheduler.close(grace_s)).result(grace_s + 10)
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

    def _finish_recorded(self, calls: list[PendingCall]) -> list[PendingCall]:
        """End the calls whose reply is in the ledger; returns the others, in their order."""
        if not calls:
            return []
        entries = self._ledger.lookup([call.request.key for call in calls])
        outcomes: dict[str, Outcome] = {}  # all, before any call is counted
        for call in calls:
            entry = entries.get(call.request.key)
            if entry is not None and not self._refusals.is_due(entry, call.request.has_alternative):
                outcomes[entry.key] = parse_reply(entry, self._reasoning, call.request.route)
        missing = []
        for call in calls:
            if call.request.key not in outcomes:
                missing.append(call)
                continue
            entry = entries[call.request.key]
            if entry.status == 200:
                self._scheduler.streaks.count_recorded(call.request)
            self._count_shared(call.request.kind, self.spend_entry(call.request.prompt, entry))
            self._single_flight.finish(call, outcomes[entry.key])
        return missing

    def _submit(self, calls: list[PendingCall]) -> None:
        """Hand calls to the event loop. Under the lock: a call that came after `close` would never end."""
        if not calls:
            return
        with self._lock:
            self._form.recall()
            if self._stopped is not None:
                raise self._stopped
            if self._closed:
                raise ModelError("this model client is closed; make another one")
            self._loop.call_soon_threadsafe(self._scheduler.submit, calls)

    def _cancel(self, batch: CallBatch, requests: Sequence[Request]) -> None:
        """The calling thread is interrupted: cancel its calls that are not in flight, wait a little for the others."""
        self._single_flight.cancel(batch, {request.key for request in requests})
        with self._lock:
            if not self._closed:
                self._loop.call_soon_threadsafe(self._scheduler.send_ready)
        with next_signal_ends():
            batch.done.wait(self._grace_s)

    def _in_order(self, requests: Sequence[Request], batch: CallBatch, new_keys: set[str]) -> list[Outcome]:
        """Outcomes by request. The first request of a key has made the call; the others share its outcome."""
        outcomes = []
        for request in requests:
            outcome = self._with_reasoning_tokens(batch.outcomes[request.key])
            if request.key in new_keys:
                new_keys.remove(request.key)
                if isinstance(outcome, Reply) and outcome.reasoning_tokens and not outcome.reused:
                    self._count(request.kind, reasoning_tokens=outcome.reasoning_tokens)
            elif isinstance(outcome, Reply):
                counts = outcome.prompt_tokens, outcome.completion_tokens
                self._count_shared(request.kind, self._usage.of(request.prompt, *counts, outcome.raw))
                outcome = replace(outcome, reused=True)
            outcomes.append(outcome)
        return outcomes

    def _count_shared(self, kind: str, usage: Usage) -> None:
        """Count a reply that no call was made for."""
        tokens = {
            "reused_prompt_tokens": usage.prompt_tokens,
            "reused_completion_tokens": usage.completion_tokens,
            "counted_here": int(usage.counted_here),
        }
        self._count(kind, reused=1, **tokens)
        self._report_progress(kind)

    def _with_reasoning_tokens(self, outcome: Outcome) -> Outcome:
        """The outcome, its thinking counted. In the caller's thread: it may load a tokenizer."""
        if isinstance(outcome, Failure) or outcome.reasoning_tokens or not outcome.thinking:
            return outcome
        tokens = self._usage.text_tokens(outcome.thinking)
        if outcome.completion_tokens:  # its share of what the server has counted, by whatever tokenizer
            answer_tokens = self._usage.text_tokens(outcome.text) if outcome.text else 0
            tokens = round(outcome.completion_tokens * tokens / max(1, tokens + answer_tokens))
        return replace(outcome, reasoning_tokens=tokens)

    def _count_ended(self, request: Request, outcome: Outcome, paid: Usage | None) -> None:
        if isinstance(outcome, Failure) or paid is None:
            self._count(request.kind, failed=1)
            if self._failed is not None and isinstance(outcome, Failure):
                self._failed(request.kind, outcome)
        else:
            tokens = {
                "prompt_tokens": paid.prompt_tokens,
                "completion_tokens": paid.completion_tokens,
                "special_tokens": outcome.special_tokens,
                "counted_here": int(paid.counted_here),
                "cached_prompt_tokens": outcome.cached_tokens,
            }
            self._count(request.kind, made=1, **tokens)
        self._report_progress(request.kind)

    def _count_retried(self, request: Request) -> None:
        self._count(request.kind, retried=1)

    def _count(self, kind: str, **more: int) -> None:
        with self._lock:
            self._counts[kind] = self._counts.get(kind, CallCounts()).plus(**more)

    def _report_progress(self, kind: str, calls: int = 1) -> None:
        if self._progress is not None:
            self._progress(kind, calls)

    def _report_wait(self, request: Request, text: str) -> None:
        if self._waits is not None:
            self._waits(request.kind, text)

    def _run_in_loop(self, work: Coroutine[Any, Any, _T]) -> "Future[_T]":
        """Start a coroutine in the event loop's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)


def _checked(url: str) -> str:
    """A base URL without a slash at its end. Raises RecipeError when it is no URL."""
    if not url.startswith(("http://", "https://")):
        raise RecipeError(f"endpoint {url!r} is no URL: give a base URL such as http://127.0.0.1:8000/v1")
    return url.rstrip("/")
