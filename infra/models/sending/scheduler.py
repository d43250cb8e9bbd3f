"""When and where each call is sent: the part of the model client that lives in its event loop.

Contexts are served first come, first served, at most `contexts_in_flight` at a time. The calls of a context go to
the endpoint that ranks first for it, so that the server finds the prefix in its cache. A call counts as in flight
until its reply is durable in the ledger. After a temporary failure a call waits for a back-off and is tried again.
An endpoint that cannot be reached gets no calls for a while, and its contexts go to their next one. When no endpoint
could be reached in any attempt, every waiting call ends with a ModelError. Where Longmill looks after the server
(infra/serving), its record tells whether it is being started again: calls wait for that, and what failed because of it
uses up no attempt. All methods run in one event loop.
"""

import asyncio
import time
from collections.abc import Iterable

import aiohttp

from infra.errors import BudgetReached, ModelError
from infra.models.protocol import Failure, Outcome, Request
from infra.models.rates.waits import RateWaits
from infra.models.refusals.rules import BAD_REQUEST
from infra.models.refusals.streaks import RefusalStreaks
from infra.models.sending.call_settings import CallSettings
from infra.models.sending.context_queue import ContextQueue, QueuedContext
from infra.models.sending.endpoint import RESTART_POLL_S, AdaptiveLimit, Endpoint, backoff, rank
from infra.models.sending.errors import rate_error, refused_error, unreachable_error
from infra.models.sending.recorder import Recorder
from infra.models.sending.single_flight import PendingCall
from infra.models.sending.transport import (
    NoRoute,
    Recordable,
    Refused,
    TemporaryFailure,
    Transport,
    classify_error,
    classify_response,
    could_not_connect,
)
from infra.models.usage import Usage
from infra.serving.records import ServerRecord, call_server, read_record

ALONE_S = 2.0  # that the first call is alone: a refusal of its form comes at once, a reply may take long
SETTLE_S = 10.0  # until the fault of a server shows in its record: vLLM takes some seconds to end
_LOOK_S = 0.5  # between two looks at it


class Scheduler:
    """Sends calls, in one queue per context."""

    def __init__(self, urls: Iterable[str], settings: CallSettings) -> None:
        self._manner = manner = settings.manner
        self._form = manner.form
        self._rates = RateWaits(manner.rates, settings.listener.waits)
        self._rates.connect(self.send_ready, self.fail_queued)
        self._limits = limits = settings.limits
        self._recorder = Recorder(settings.ledger, manner, settings.reasoning)
        self._single_flight = settings.single_flight
        self._meter = settings.meter
        self._price = settings.price
        self._listener = settings.listener
        self._usage = settings.usage
        self.streaks = RefusalStreaks()
        self._endpoints: list[Endpoint] = []
        self._transports: dict[str, Transport] = {}  # by URL
        for url in urls:
            record = read_record(url)
            restarts = record.restarts if record else 0
            limit = AdaptiveLimit(limits.concurrency)
            endpoint = Endpoint(url, limit, limits.backoff_s, restarts=restarts)
            if record is not None and record.state != "up":
                endpoint.wait_for_restart(time.monotonic() - RESTART_POLL_S)  # the first call looks at it again
            self._endpoints.append(endpoint)
            self._transports[url] = Transport(url, manner.api_key, limits.timeout_s, manner.headers)
        self._contexts = ContextQueue(limits.contexts_in_flight, lambda affinity: rank(self._endpoints, affinity))
        self._backing_off: dict[PendingCall, tuple[asyncio.TimerHandle, QueuedContext]] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # one for each call in flight
        self._wake_up: asyncio.TimerHandle | None = None  # sends when an endpoint's wait is over
        self._most_calls = 1 if limits.try_first else limits.concurrency  # in flight, now
        self._alone: asyncio.TimerHandle | None = None  # ends the time of the first call
        self._stopped: Exception | None = None  # what a call ends with that would be sent now

    @property
    def in_flight(self) -> int:
        """Calls in flight. May be read in any thread."""
        return len(self._tasks)

    def submit(self, calls: Iterable[PendingCall]) -> None:
        """Queue calls, in their order."""
        if self._rates.are_stalled(self._endpoints, self._limits):
            for endpoint in self._endpoints:
                endpoint.rate.forget_stalls()
        for call in calls:
            self._contexts.add(call)
        self.send_ready()

    def send_ready(self) -> None:
        """Send all calls that may be sent now."""
        if self._stopped is not None:
            self.fail_queued(self._stopped)
            return
        now = time.monotonic()
        self._contexts.admit()
        while len(self._tasks) < self._most_calls:
            contexts = self._contexts.ready()
            for context in contexts:
                self._send_context(context, now)
                if len(self._tasks) >= self._most_calls:
                    return
            if not self._contexts.admit():
                if contexts:
                    self._set_wake_up(now)
                return

    def _send_context(self, context: QueuedContext, now: float) -> None:
        """Send a context's calls until its endpoint or the client has no room."""
        while context.queue and len(self._tasks) < self._most_calls:
            endpoint = next((endpoint for endpoint in context.ranking if self._is_open(endpoint, now)), None)
            if endpoint is None or not endpoint.has_room(now) or not self._rates.has_room(context.queue[0].request):
                return
            call = context.queue.popleft()
            if not self._single_flight.start(call):
                self._contexts.finish_call(context)
            elif not self._reserve(call):
                self._end(call, context, BudgetReached("the budget is reached"))  # the client raises one with figures
            else:
                if self._most_calls < self._limits.concurrency and self._alone is None:
                    self._alone = asyncio.get_running_loop().call_later(ALONE_S, self._let_all_go)
                self._rates.spend(call.request)
                attempt = self._attempt(call, context, endpoint, endpoint.start_call())
                task = asyncio.get_running_loop().create_task(attempt)
                self._tasks.add(task)
                task.add_done_callback(self._attempt_ended)

    def _let_all_go(self) -> None:
        """The first call has its response, or takes long: send the others."""
        self._most_calls = self._limits.concurrency
        self.send_ready()

    def _is_open(self, endpoint: Endpoint, now: float) -> bool:
        """Whether calls may go to an endpoint. One whose server is being started again is looked at, not called."""
        if not endpoint.is_open(now):
            return False
        if endpoint.unreachable_count == 0:
            return True
        record = read_record(endpoint.url)
        if record is None or record.state == "up":
            return True
        self._wait_for_server(endpoint, record, now)
        return False

    def _wait_for_server(self, endpoint: Endpoint, record: ServerRecord, now: float) -> None:
        """Send no calls to a server that is not up, until its record says that it is."""
        if record.state == "failed":
            endpoint.give_up(now, record.message)
            asyncio.get_running_loop().call_soon(self._fail_if_lost)
        else:
            if record.state == "waiting":
                call_server(record.port)
            endpoint.wait_for_restart(now)

    def _attempt_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.send_ready()

    async def _attempt(self, call: PendingCall, context: QueuedContext, endpoint: Endpoint, halvings: int) -> None:
        """Send a call once. Whatever happens, the call ends or is queued again."""
        try:
            await self._send(call, context, endpoint, halvings)
        except Exception as error:  # a ledger that cannot record, or a bug: the waiting threads must get the error
            self._release(call)
            self._end(call, context, error)
            self.fail_queued(error)
        except asyncio.CancelledError:
            self._release(call)
            self._end(call, context, self._stopped or ModelError("the client was closed while a call was in flight"))
            raise
        finally:
            endpoint.limit.end_call()

    async def _send(self, call: PendingCall, context: QueuedContext, endpoint: Endpoint, halvings: int) -> None:
        started = time.monotonic()
        restarts = endpoint.restarts
        form = self._form.form
        try:
            response = await self._transports[endpoint.url].post(form.body(call.request), call.request.route)
        except (aiohttp.ClientError, TimeoutError) as error:
            self._most_calls = self._limits.concurrency
            self._handle_error(call, context, endpoint, restarts, error)
            return
        except BaseException:
            endpoint.end_probe()
            raise
        endpoint.mark_reachable()
        if await self._form.settles(form, call.request, response.status, response.body, self._manner.redact):
            self._release(call)
            self._requeue(call, context)
            return
        self._most_calls = self._limits.concurrency
        result = classify_response(response, call.request.route)
        seconds = time.monotonic() - started
        self._rates.read_headers(endpoint, response)
        if isinstance(result, Recordable):
            endpoint.limit.increase()
            self._rates.take(endpoint, call.request, result)
            self.streaks.count_success(endpoint.url, call.request)
            await self._record(call, context, result, seconds)
        elif isinstance(result, Refused) and self.streaks.is_of_prompt(call.request, result.refusal):
            self._release(call)
            self._end(call, context, await self._recorder.record_refusal(call.request, endpoint.url, result, seconds))
        elif isinstance(result, TemporaryFailure) and self._rates.is_limit(call, response, result):
            self._rates.wait(call.request, endpoint, halvings, response, result, self._manner.redact)
            self._release(call)
            self._requeue(call, context)
            if self._rates.are_stalled(self._endpoints, self._limits):
                self.fail_queued(rate_error(endpoint, result.detail, self._manner))
        else:
            self._handle_failure(call, context, endpoint, halvings, restarts, result)

    def _handle_error(
        self, call: PendingCall, context: QueuedContext, endpoint: Endpoint, restarts: int, error: Exception
    ) -> None:
        """There was no response. If the endpoint cannot be reached, the call waits without using up an attempt."""
        self._release(call)
        failure = classify_error(error)
        unreachable = could_not_connect(error) or (endpoint.probing and failure.reason == "connection")
        if not unreachable:
            endpoint.end_probe()
            self._retry(call, context, endpoint, restarts, failure)
            return
        now = time.monotonic()
        record = read_record(endpoint.url)
        if record is None:
            endpoint.mark_unreachable(now, failure.detail)
        else:
            self._wait_for_server(endpoint, record, now)
        self._requeue(call, context)
        self._fail_if_lost()

    def _handle_failure(
        self,
        call: PendingCall,
        context: QueuedContext,
        endpoint: Endpoint,
        halvings: int,
        restarts: int,
        failure: Refused | NoRoute | TemporaryFailure,
    ) -> None:
        """There was a response that is not to be recorded."""
        self._release(call)
        if isinstance(failure, Refused) and self._waits_for_restart(call, context, endpoint, restarts):
            return  # the server responds already, but it does not have its adapters yet
        match failure:
            case NoRoute(detail):
                self._end(call, context, self._bad_request(call.request, detail))
            case TemporaryFailure():
                if failure.busy:
                    endpoint.limit.halve(halvings)
                if failure.wait_s is not None:
                    endpoint.pause(time.monotonic(), failure.wait_s)
                self._retry(call, context, endpoint, restarts, failure)
            case Refused():
                if call.request.has_alternative and failure.refusal.subject in ("form", "unexplained"):
                    self._end(call, context, self._bad_request(call.request, failure.detail))
                else:
                    self._count_refusal(call, context, endpoint, failure)

    def _count_refusal(self, call: PendingCall, context: QueuedContext, endpoint: Endpoint, failure: Refused) -> None:
        """A person must act: the run stops, unless this may be a stray one."""
        request = call.request
        stops = self.streaks.count_refusal(endpoint.url, request, failure.refusal)
        call.failed_attempts += 1
        if not stops and call.failed_attempts < self._limits.attempts:
            self._back_off(call, context)
            return
        error = refused_error(endpoint.url, request.model, failure, self._manner)
        self._end(call, context, error)
        # A key and an address are those of all models; the rest is this one's.
        self.fail_queued(error, None if failure.refusal.subject in ("account", "address") else request.model)

    async def _record(self, call: PendingCall, context: QueuedContext, result: Recordable, seconds: float) -> None:
        """Record a reply; only then does the call end."""
        request, completion = call.request, result.completion
        reply = await self._recorder.record_reply(request, result, seconds)
        usage = await self._usage.of_reply(request.prompt, completion, result.raw)
        if self._meter is not None and call.reserved:
            call.reserved = False
            self._meter.settle(request.key, usage.prompt_tokens, usage.completion_tokens, self._price)
        self._end(call, context, reply, usage)

    def _retry(
        self, call: PendingCall, context: QueuedContext, endpoint: Endpoint, restarts: int, failure: TemporaryFailure
    ) -> None:
        """Try a call again after a back-off, or end it when its attempts are used up.

        `restarts` of the server when the attempt began: where it has grown since, the attempt does not count.
        """
        if self._waits_for_restart(call, context, endpoint, restarts):
            return
        call.failed_attempts += 1
        if call.failed_attempts < self._limits.attempts:
            self._back_off(call, context)
        elif read_record(endpoint.url) is not None:
            self._single_flight.requeue(call)
            loop = asyncio.get_running_loop()
            arguments = call, endpoint, restarts, failure, loop.time() + SETTLE_S
            self._backing_off[call] = (loop.call_later(_LOOK_S, self._end_unless_restarted, *arguments), context)
        else:
            self._end_failed(call, context, endpoint, failure)

    def _back_off(self, call: PendingCall, context: QueuedContext) -> None:
        """Let a call wait before its next attempt."""
        self._single_flight.requeue(call)
        self._listener.retried(call.request)
        delay = backoff(call.failed_attempts, self._limits.backoff_s)
        timer = asyncio.get_running_loop().call_later(delay, self._end_backoff, call)
        self._backing_off[call] = (timer, context)

    def _waits_for_restart(self, call: PendingCall, context: QueuedContext, endpoint: Endpoint, restarts: int) -> bool:
        """Queue a call again when its server is being started again, or was since the attempt began."""
        record = read_record(endpoint.url)
        if record is None or (record.state == "up" and record.restarts == restarts):
            return False
        endpoint.restarts = record.restarts
        if record.state != "up":
            self._wait_for_server(endpoint, record, time.monotonic())
        call.failed_attempts = 0  # the failures before were those of a server that was about to end
        self._listener.retried(call.request)
        self._requeue(call, context)
        return True

    def _requeue(self, call: PendingCall, context: QueuedContext) -> None:
        """Put a call that was in flight back, before the others of its context."""
        self._single_flight.requeue(call)
        self._contexts.put_back(call, context)

    def _end_backoff(self, call: PendingCall) -> None:
        _, context = self._backing_off.pop(call)
        self._contexts.put_back(call, context)
        self.send_ready()

    def _end_unless_restarted(
        self, call: PendingCall, endpoint: Endpoint, restarts: int, failure: TemporaryFailure, deadline: float
    ) -> None:
        """The attempts of a call are used up: it ends at `deadline`, unless its server turns out to have gone down."""
        _, context = self._backing_off.pop(call)
        loop = asyncio.get_running_loop()
        if self._waits_for_restart(call, context, endpoint, restarts):
            self.send_ready()
        elif loop.time() >= deadline:
            self._end_failed(call, context, endpoint, failure)
            self.send_ready()
        else:
            arguments = call, endpoint, restarts, failure, deadline
            self._backing_off[call] = (loop.call_later(_LOOK_S, self._end_unless_restarted, *arguments), context)

    def _end_failed(
        self, call: PendingCall, context: QueuedContext, endpoint: Endpoint, failure: TemporaryFailure
    ) -> None:
        detail = self._manner.redact(failure.detail)
        self._end(call, context, Failure(call.request.key, failure.reason, detail, False, endpoint.url))

    def _end(
        self, call: PendingCall, context: QueuedContext, outcome: Outcome | Exception, paid: Usage | None = None
    ) -> None:
        if not isinstance(outcome, Exception):
            self._listener.ended(call.request, outcome, paid)
        self._single_flight.finish(call, outcome)
        self._contexts.finish_call(context)

    def _reserve(self, call: PendingCall) -> bool:
        """Reserve the call in the budget; False when the budget is reached."""
        if self._meter is not None and not self._meter.reserve():
            return False
        call.reserved = self._meter is not None
        return True

    def _release(self, call: PendingCall) -> None:
        """Undo `_reserve`."""
        if self._meter is not None and call.reserved:
            call.reserved = False
            self._meter.release()

    def fail_queued(self, error: Exception, model: str | None = None) -> None:
        """End all calls that are not in flight, or those to one model, with `error`."""

        def selected(call: PendingCall) -> bool:
            return model is None or call.request.model == model

        for call, (timer, context) in list(self._backing_off.items()):
            if selected(call):
                timer.cancel()
                del self._backing_off[call]
                self._end(call, context, error)
        for call, context in self._contexts.take_all(selected):
            self._end(call, context, error)

    def _fail_if_lost(self) -> None:
        """When no endpoint can be reached: end all waiting calls, and let the next call try from the start."""
        if not all(endpoint.is_lost(self._limits.attempts) for endpoint in self._endpoints):
            return
        error = unreachable_error(self._endpoints, self._limits.attempts, self._manner)
        for endpoint in self._endpoints:
            endpoint.mark_reachable()
        self.fail_queued(error)

    def _bad_request(self, request: Request, detail: str) -> Failure:
        return Failure(request.key, BAD_REQUEST, self._manner.redact(detail), True)

    def _set_wake_up(self, now: float) -> None:
        """Send again when the first endpoint's wait is over. All other events that make room send by themselves."""
        waits = (endpoint.opens_at(now) for endpoint in self._endpoints)
        times = [opens_at for opens_at in waits if opens_at is not None]
        if not times:
            return
        if self._wake_up is not None:
            self._wake_up.cancel()
        self._wake_up = asyncio.get_running_loop().call_at(min(times), self.send_ready)

    def stop(self, error: Exception) -> None:
        """Send no further call. Those that are not in flight, or would be sent again, end with `error`."""
        self._stopped = self._stopped or error
        self.fail_queued(self._stopped)

    async def close(self, grace_s: float) -> None:
        """Stop, let calls in flight finish for `grace_s` seconds, cancel the rest, disconnect."""
        self.stop(ModelError("the model client was closed before this call was sent"))
        tasks = set(self._tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for timer in filter(None, (self._wake_up, self._alone)):
            timer.cancel()
        self.send_ready()
        await self._rates.close()
        for transport in self._transports.values():
            await transport.close()
