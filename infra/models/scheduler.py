"""Which call is sent when, and where: the part of the model client that lives in its event loop.

Contexts are served first come, first served, at most `contexts_in_flight` at a time; a context's calls go
together to the endpoint that ranks first for it, so that the server finds the prefix in its cache. A call holds
its slot until its reply is durable in the ledger. A passing fault puts the call back after a back-off; an
endpoint that cannot be reached is set aside and its contexts go to their next one. When none can be reached for
the whole retry budget, every waiting call ends with a ModelError. All methods run in one event loop.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import aiohttp

from infra.errors import BudgetReached, ModelError
from infra.ledger import Entry
from infra.models.budget import BudgetMeter
from infra.models.context_queue import ContextQueue, QueuedContext
from infra.models.endpoint import AdaptiveLimit, Endpoint, backoff, rank
from infra.models.protocol import Failure, LedgerLike, Outcome, Request, parse_reply, reply_from
from infra.models.single_flight import PendingCall, SingleFlight
from infra.models.transport import (
    EndpointFailure,
    HttpResponse,
    Recordable,
    Refusal,
    TemporaryFailure,
    Transport,
    classify_error,
    classify_response,
    could_not_connect,
)
from infra.recipe import Price


@dataclass(frozen=True, slots=True)
class CallLimits:
    """How the calls run; none of it changes a reply."""

    concurrency: int  # most calls in flight, over all endpoints
    contexts_in_flight: int
    timeout_s: float  # of one try of one call
    attempts: int  # tries of one call
    backoff_s: float  # before the second try; doubles each time, with jitter


@dataclass(frozen=True, slots=True)
class CallListener:
    """Whom the dispatcher tells: `ended` (request, outcome, paid entry or None) and `retried` (request)."""

    ended: Callable[[Request, Outcome, Entry | None], None]
    retried: Callable[[Request], None]


class Scheduler:
    """Sends calls, one line per context."""

    def __init__(
        self,
        urls: Iterable[str],
        api_key: tuple[str | None, str],  # the key, and the name of the variable it came from
        pace: CallLimits,
        ledger: LedgerLike,
        claims: SingleFlight,
        meter: BudgetMeter | None,
        price: Price,
        reporting: CallListener,
    ) -> None:
        self._api_key, self._api_key_env = api_key
        self._pace = pace
        self._ledger = ledger
        self._claims = claims
        self._meter = meter
        self._price = price
        self._reporting = reporting
        self._endpoints = [Endpoint(url, AdaptiveLimit(pace.concurrency), pace.backoff_s) for url in urls]
        self._wires = {point.url: Transport(point.url, self._api_key, pace.timeout_s) for point in self._endpoints}
        self._lines = ContextQueue(pace.contexts_in_flight, lambda affinity: rank(self._endpoints, affinity))
        self._sleeping: dict[PendingCall, tuple[asyncio.TimerHandle, QueuedContext]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None

    def submit(self, calls: Iterable[PendingCall]) -> None:
        """Queue calls, in their order."""
        for call in calls:
            self._lines.join(call)
        self.pump()

    def pump(self) -> None:
        """Send all that may be sent now."""
        now = time.monotonic()
        self._lines.admit()
        while len(self._tasks) < self._pace.concurrency:
            lines = self._lines.ready()
            for line in lines:
                self._serve(line, now)
                if len(self._tasks) >= self._pace.concurrency:
                    return
            if not self._lines.admit():
                if lines:
                    self._set_alarm(now)
                return

    def _serve(self, line: QueuedContext, now: float) -> None:
        """Send a context's calls until its endpoint or the client has no room."""
        while line.queue and len(self._tasks) < self._pace.concurrency:
            endpoint = next((point for point in line.ranking if point.is_open(now)), None)
            if endpoint is None or not endpoint.has_room(now):
                return
            call = line.queue.popleft()
            if not self._claims.start(call):
                self._lines.leave(line)
            elif not self._reserve(call):
                self._end(call, line, BudgetReached("the budget is reached"))  # the client raises one with figures
            else:
                task = asyncio.get_running_loop().create_task(self._try(call, line, endpoint, endpoint.begin()))
                self._tasks.add(task)
                task.add_done_callback(self._tried)

    def _tried(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.pump()

    async def _try(self, call: PendingCall, line: QueuedContext, endpoint: Endpoint, era: int) -> None:
        """Send a call once and see what becomes of it. Whatever happens, the call ends or is queued again."""
        try:
            await self._send(call, line, endpoint, era)
        except Exception as error:  # a ledger that refuses a record, or a bug: whoever waits must hear of it
            self._release(call)
            self._end(call, line, error)
            self.fail_queued(error)
        except asyncio.CancelledError:
            self._release(call)
            self._end(call, line, ModelError("the model client was closed while a call was in flight"))
            raise
        finally:
            endpoint.limit.give()

    async def _send(self, call: PendingCall, line: QueuedContext, endpoint: Endpoint, era: int) -> None:
        started = time.monotonic()
        try:
            answer = await self._wires[endpoint.url].post(call.request.body())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._unreached(call, line, endpoint, error)
            return
        except BaseException:
            endpoint.abandoned()
            raise
        endpoint.answered()
        await self._heard(call, line, endpoint, era, answer, time.monotonic() - started)

    def _unreached(self, call: PendingCall, line: QueuedContext, endpoint: Endpoint, error: Exception) -> None:
        """No response: the endpoint is set aside if it is not there, else the call is tried again."""
        self._release(call)
        again = classify_error(error)
        if not could_not_connect(error) and not (endpoint.probing and again.reason == "connection"):
            endpoint.abandoned()
            self._again(call, line, again)
            return
        endpoint.refused(time.monotonic(), again.detail)
        self._claims.requeue(call)
        self._lines.put_back(call, line)
        if all(point.refusals >= self._pace.attempts for point in self._endpoints):
            self._give_up()

    async def _heard(
        self, call: PendingCall, line: QueuedContext, endpoint: Endpoint, era: int, answer: HttpResponse, seconds: float
    ) -> None:
        """Act on an endpoint's answer."""
        verdict = classify_response(answer)
        if isinstance(verdict, Recordable):
            endpoint.limit.grow()
            await self._settle(call, line, verdict, seconds)
            return
        self._release(call)
        match verdict:
            case Refusal(detail):
                self._end(call, line, Failure(call.request.key, "bad_request", self._redacted(detail), True))
            case TemporaryFailure():
                if verdict.busy:
                    endpoint.limit.push_back(era)
                if verdict.wait_s is not None:
                    endpoint.pause(time.monotonic(), verdict.wait_s)
                self._again(call, line, verdict)
            case EndpointFailure():
                error = self._fatal(endpoint, call.request.model, verdict)
                self._end(call, line, error)
                self.fail_queued(error, call.request.model if verdict.one_model else None)

    async def _settle(self, call: PendingCall, line: QueuedContext, settled: Recordable, seconds: float) -> None:
        """Record a reply or a refusal; only then is the call over."""
        request, completion = call.request, settled.completion
        prompt_tokens = completion.prompt_tokens if completion else 0
        completion_tokens = completion.completion_tokens if completion else 0
        entry = Entry(
            key=request.key,
            kind=request.kind,
            model=request.model,
            revision=request.revision,
            status=settled.status,
            reply=settled.raw,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            seconds=seconds,
            created=time.time(),
        )
        await self._ledger.record(entry)
        if self._meter is not None and call.reserved:
            call.reserved = False
            self._meter.settle(request.key, prompt_tokens, completion_tokens, self._price)
        outcome = reply_from(request.key, completion, settled.raw, False) if completion else parse_reply(entry)
        self._end(call, line, outcome, entry)

    def _again(self, call: PendingCall, line: QueuedContext, again: TemporaryFailure) -> None:
        """Try a call again after a back-off, or end it when its attempts are used up."""
        call.attempts += 1
        if call.attempts >= self._pace.attempts:
            self._end(call, line, Failure(call.request.key, again.reason, self._redacted(again.detail), False))
            return
        self._reporting.retried(call.request)
        self._claims.requeue(call)
        delay = backoff(call.attempts, self._pace.backoff_s)
        timer = asyncio.get_running_loop().call_later(delay, self._awake, call)
        self._sleeping[call] = (timer, line)

    def _awake(self, call: PendingCall) -> None:
        _, line = self._sleeping.pop(call)
        self._lines.put_back(call, line)
        self.pump()

    def _end(
        self, call: PendingCall, line: QueuedContext, outcome: Outcome | Exception, paid: Entry | None = None
    ) -> None:
        if not isinstance(outcome, Exception):
            self._reporting.ended(call.request, outcome, paid)
        self._claims.finish(call, outcome)
        self._lines.leave(line)

    def _reserve(self, call: PendingCall) -> bool:
        if self._meter is not None and not self._meter.reserve():
            return False
        call.reserved = self._meter is not None
        return True

    def _release(self, call: PendingCall) -> None:
        if self._meter is not None and call.reserved:
            call.reserved = False
            self._meter.release()

    def fail_queued(self, error: Exception, model: str | None = None) -> None:
        """End all calls that are not in flight, or those to one model, with `error`."""

        def concerned(call: PendingCall) -> bool:
            return model is None or call.request.model == model

        for call, (timer, line) in list(self._sleeping.items()):
            if concerned(call):
                timer.cancel()
                del self._sleeping[call]
                self._end(call, line, error)
        for call, line in self._lines.drain(concerned):
            self._end(call, line, error)

    def _give_up(self) -> None:
        """No endpoint can be reached: end all that waits, and let the next call try afresh."""
        tried = "; ".join(f"{point.url} ({point.last_error})" for point in self._endpoints)
        tries = f"{self._pace.attempts} tries of each"
        error = ModelError(
            f"no endpoint can be reached after {tries}: {self._redacted(tried)}. Start the server or correct "
            "`endpoints` in the recipe, then run again; the replies that arrived are in the ledger."
        )
        for point in self._endpoints:
            point.forgive()
        self.fail_queued(error)

    def _fatal(self, endpoint: Endpoint, model: str, fatal: EndpointFailure) -> ModelError:
        remedy = fatal.remedy.format(api_key_env=self._api_key_env)
        return ModelError(f"{endpoint.url} refuses model {model!r}: {self._redacted(fatal.cause)}; {remedy}")

    def _redacted(self, text: str) -> str:
        """A text without the API key, which some servers repeat in their errors."""
        return text.replace(self._api_key, "[key]") if self._api_key else text

    def _set_alarm(self, now: float) -> None:
        """Pump again when the first pause is over. Everything else that frees a slot pumps by itself."""
        times = [at for point in self._endpoints if (at := point.wakes_at(now)) is not None]
        if not times:
            return
        at = min(times)
        if self._alarm is None or self._alarm.cancelled() or self._alarm.when() > at or self._alarm.when() <= now:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = asyncio.get_running_loop().call_at(at, self.pump)

    async def close(self, grace_s: float) -> None:
        """End what waits, let calls in flight finish for `grace_s` seconds, cancel the rest, hang up."""
        self.fail_queued(ModelError("the model client was closed before this call was sent"))
        tasks = set(self._tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._alarm is not None:
            self._alarm.cancel()
        self.fail_queued(ModelError("the model client was closed before this call was sent"))
        for wire in self._wires.values():
            await wire.close()
