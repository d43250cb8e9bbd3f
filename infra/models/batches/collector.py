"""What a batch has brought: replies and refusals to the ledger, outcomes to the calls that wait, costs to the budget.

A line is classed as the response of a live call is. Replies are recorded first, whether or not a call waits for them,
since they are paid for. A request without an outcome is to be sent again, unless the ledger has its reply meanwhile.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from infra.errors import ModelError
from infra.models.batches.lines import OutcomeLine, read_outcomes
from infra.models.batches.records import BatchLines, BatchState
from infra.models.batches.server import BatchServer, BatchView
from infra.models.budget import NOTHING, Expected, call_cost
from infra.models.forms.request_form import RequestForm
from infra.models.protocol import Failure, Outcome, Request, parse_reply
from infra.models.rates.limiter import tokens_of_call
from infra.models.refusals.rules import BAD_REQUEST
from infra.models.refusals.streaks import RefusalStreaks
from infra.models.sending.call_settings import CallSettings
from infra.models.sending.errors import refused_error
from infra.models.sending.recorder import Recorder
from infra.models.sending.single_flight import PendingCall
from infra.models.sending.transport import Recordable, Refused, TemporaryFailure, classify_response
from infra.models.tokens import estimated_tokens
from infra.models.usage import Usage

_AT_ONCE = 256  # entries that are looked up or recorded together

_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class OpenBatch:
    """A batch at the server, and the calls of this process that wait for it."""

    name: str  # of its record
    lines: BatchLines
    state: BatchState
    form: RequestForm  # in which its requests were written
    adopted: bool = False  # another run has made it
    calls: dict[str, PendingCall] = field(default_factory=dict)  # those without an outcome, by key
    attached: list[PendingCall] = field(default_factory=list)  # all that ever waited
    collecting: bool = False

    def attach(self, calls: Iterable[PendingCall]) -> None:
        """Let calls wait for it."""
        for call in calls:
            self.calls[call.request.key] = call
            self.attached.append(call)


class Collector:
    """Brings the outcomes of one model's batches home. Used in one event loop."""

    def __init__(self, url: str, settings: CallSettings) -> None:
        self._url = url
        self._manner = settings.manner
        self._limits = settings.limits
        self._ledger = settings.ledger
        self._single_flight = settings.single_flight
        self._meter = settings.meter
        self._price = settings.price
        self._listener = settings.listener
        self._usage = settings.usage
        self._reasoning = settings.reasoning
        self._recorder = Recorder(settings.ledger, settings.manner, settings.reasoning)
        self.streaks = RefusalStreaks()
        self._expected: dict[PendingCall, Expected] = {}  # what is reserved in the budget

    async def collect(
        self, batch: OpenBatch, view: BatchView, server: BatchServer
    ) -> tuple[list[PendingCall], Exception | None]:
        """Record what a batch that has ended has brought; returns the calls to send again, and what ends the run.

        Raises BatchFault when a file cannot be had; what was recorded until then is not recorded twice.
        """
        recorded: set[str] = set()
        if batch.adopted:  # another run may have been killed while it collected
            recorded = await asyncio.to_thread(self._ledger.holds, list(batch.lines.kinds))
        batch.collecting = True
        refused: dict[str, OutcomeLine] = {}
        strange = 0
        for file_id in filter(None, (view.output_file, view.error_file)):
            async with server.download(file_id) as file:
                replies: dict[str, Recordable] = {}
                for line in read_outcomes(file):
                    result = classify_response(line.response) if line.response else None
                    if line.key not in batch.lines.kinds:
                        strange += 1
                    elif not isinstance(result, Recordable):
                        refused.setdefault(line.key, line)
                    elif line.key not in recorded:
                        recorded.add(line.key)
                        replies[line.key] = result
                    if len(replies) == _AT_ONCE:
                        await self._record(batch, replies)
                        replies = {}
                await self._record(batch, replies)
        if strange:
            _log.warning(
                "batch %s: %d lines have a custom_id that was not sent; they are left out", view.batch, strange
            )
        again: list[PendingCall] = []
        error: Exception | None = None
        for key, line in refused.items():
            if (call := batch.calls.get(key)) and line.response is not None:
                del batch.calls[key]
                outcome = await self._refuse(batch, call, line)
                if isinstance(outcome, Exception):
                    error = error or outcome
                elif outcome:
                    again.append(call)
        missing = TemporaryFailure(
            "timeout", f"batch {view.batch} is {view.status}, without an outcome of this request"
        )
        again += self.retried(await self.without_recorded(batch), missing)
        return again, error

    async def without_recorded(self, batch: OpenBatch) -> list[PendingCall]:
        """Take the calls that have no outcome yet; those whose reply is in the ledger end with it."""
        calls, batch.calls = batch.calls, {}
        keys = list(calls)
        for start in range(0, len(keys), _AT_ONCE):
            entries = await asyncio.to_thread(self._ledger.lookup, keys[start : start + _AT_ONCE])
            for key, entry in entries.items():
                call = calls.pop(key)
                usage = await asyncio.to_thread(self._usage.of_entry, call.request.prompt, entry)
                self._settle(call, usage)
                self._end(call, parse_reply(entry, self._reasoning), usage)
        return list(calls.values())

    def retried(self, calls: Iterable[PendingCall], failure: TemporaryFailure) -> list[PendingCall]:
        """The calls that may be tried once more; the others end."""
        again = []
        for call in calls:
            self.release(call)
            call.failed_attempts += 1
            if call.failed_attempts < self._limits.attempts:
                self._listener.retried(call.request)
                again.append(call)
            else:
                detail = self._manner.redact(failure.detail)
                self._end(call, Failure(call.request.key, failure.reason, detail, False, self._url))
        return again

    def reserve(self, call: PendingCall) -> bool:
        """Reserve what a call is expected to cost; False when the budget allows no further call now."""
        if self._meter is None:
            return True
        expected = self._expected_cost(call.request)
        if not self._meter.reserve_expected(expected):
            return False
        call.reserved = True
        self._expected[call] = expected
        return True

    def may_have_room(self) -> bool:
        """Whether replies to come may leave room in the budget, since they cost less than is reserved."""
        return self._meter is not None and self._meter.reserves()

    def release(self, call: PendingCall) -> None:
        """Undo `reserve`."""
        if self._meter is not None and call.reserved:
            call.reserved = False
            self._meter.release(self._expected.pop(call, NOTHING))

    def fail(self, calls: Iterable[PendingCall], error: Exception) -> None:
        """End calls with an error; those that have ended stay as they are."""
        for call in calls:
            self.release(call)
            self._single_flight.finish(call, error)

    async def _record(self, batch: OpenBatch, replies: dict[str, Recordable]) -> None:
        """Record replies; only then do their calls end."""
        await asyncio.gather(*(self._record_one(batch, key, result) for key, result in replies.items()))

    async def _record_one(self, batch: OpenBatch, key: str, result: Recordable) -> None:
        seconds = time.time() - batch.state.at
        reply = await self._recorder.record_reply(batch.lines.sent_call(key), result, seconds)
        call = batch.calls.pop(key, None)
        if call is None:  # the run that has sent it was killed, and this one does not need it yet
            return
        self.streaks.count_success(self._url, call.request)
        usage = await self._usage.of_reply(call.request.prompt, result.completion, result.raw)
        self._settle(call, usage)
        self._end(call, reply, usage)

    async def _refuse(self, batch: OpenBatch, call: PendingCall, line: OutcomeLine) -> bool | Exception:
        """What a line without a reply means for its call: it is sent again (True), or has ended, or ends the run."""
        request, response = call.request, line.response
        assert response is not None
        settles = self._manner.form.settles
        if await settles(batch.form, request, response.status, response.body, self._manner.redact):
            self.release(call)
            return True
        result = classify_response(response)
        if isinstance(result, TemporaryFailure):
            return bool(self.retried([call], result))
        assert isinstance(result, Refused)  # not a reply, and a chat request has its route
        self.release(call)
        if self.streaks.is_of_prompt(request, result.refusal):
            self._end(call, await self._recorder.record_refusal(request, self._url, result, 0.0))
            return False
        if request.has_alternative and result.refusal.subject in ("form", "unexplained"):
            self._end(call, Failure(request.key, BAD_REQUEST, self._manner.redact(result.detail), True))
            return False
        call.failed_attempts += 1
        stops = self.streaks.count_refusal(self._url, request, result.refusal)
        if stops or call.failed_attempts >= self._limits.attempts:
            return refused_error(self._url, request.model, result, self._manner)
        return True

    def _expected_cost(self, request: Request) -> Expected:
        prompt_tokens, tokens = estimated_tokens(request.prompt.encoded), tokens_of_call(request)
        return Expected(tokens, call_cost(prompt_tokens, tokens - prompt_tokens, self._price))

    def _settle(self, call: PendingCall, usage: Usage) -> None:
        """Count a call's cost. One that an earlier run has sent was not reserved."""
        if self._meter is None:
            return
        cost = call.request.key, usage.prompt_tokens, usage.completion_tokens, self._price
        if call.reserved:
            call.reserved = False
            self._meter.settle(*cost, self._expected.pop(call, NOTHING))
        else:
            self._meter.spend(*cost)

    def _end(self, call: PendingCall, outcome: Outcome, paid: Usage | None = None) -> None:
        self._listener.ended(call.request, outcome, paid)
        self._single_flight.finish(call, outcome)


def without_file(url: str, view: BatchView, place: str) -> ModelError:
    """A batch is said to have replies, and no file of them is named: what is paid for is not asked again."""
    return ModelError(
        f"{url}: batch {view.batch} has {view.completed:,} replies, and the server names no file of them. They are "
        f"paid for, so they are not asked again: run again later, or remove {place} to pay for them anew"
    )
