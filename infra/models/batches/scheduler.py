"""Calls by batches: gathered until nothing new comes for some seconds, sent as files, looked at until they have ended.

A step of the work that waits for another makes a batch of its own, so each of a run's steps takes a batch's time. A
batch outlives the run: an interrupted or killed one leaves it running, and the next run that needs one of its replies
takes it over by its record in the store (records.py). Requests without an outcome, since the batch expired or was
cancelled, are asked again in a new batch. A budget is reserved for a whole batch before it is sent; calls that do not
fit wait for replies, which mostly cost less than was expected. All methods run in one event loop.
"""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from infra.errors import BudgetReached, ModelError, RefusedError
from infra.models.batches.collector import Collector, OpenBatch, without_file
from infra.models.batches.lines import MOST_BYTES, MOST_LINES, request_line, route_of
from infra.models.batches.records import BatchLines, BatchRecords, BatchState
from infra.models.batches.server import ENDED, FAILED, BatchFault, BatchServer, BatchView
from infra.models.forms.request_form import RequestForm
from infra.models.protocol import Request
from infra.models.refusals.rules import classify_refusal
from infra.models.sending.call_settings import CallSettings
from infra.models.sending.endpoint import backoff
from infra.models.sending.errors import refused_error
from infra.models.sending.single_flight import PendingCall
from infra.models.sending.transport import Refused, TemporaryFailure
from infra.recipe import BatchSettings
from infra.store import Store

LOST_S = 60.0  # after which a batch that the server does not list was never made: its request ended long before
_FIRST_LOOK_S = 2.0
_LONGEST_GATHERING = 6  # times gather_s, where new requests keep coming
_LINE_BYTES = 256  # of a line, beside prompt and parameters
_IN_MEMORY = 64 << 20  # bytes of a file; more go to the disk
_NO_ROOM = re.compile(r"token_limit_exceeded|enqueued|too many (open |active |in.progress )?batches", re.I)


@dataclass(frozen=True, slots=True)
class Batching:
    """How a client of one model sends batches; `say` gets a line for the user."""

    store: Store
    model: str
    settings: BatchSettings
    say: Callable[[str], None]


class BatchScheduler:
    """Sends calls as batches to one endpoint."""

    def __init__(self, url: str, batching: Batching, settings: CallSettings) -> None:
        self._url = url
        self._ledger = settings.ledger
        self._manner = manner = settings.manner
        self._limits = limits = settings.limits
        self._single_flight = settings.single_flight
        self._listener = settings.listener
        self._settings = batching.settings
        self._say = batching.say
        self._records = BatchRecords(batching.store, batching.model, url)
        self._server = BatchServer(url, manner.api_key, manner.headers, limits.timeout_s, limits.attempts)
        self._collector = Collector(url, settings)
        self.streaks = self._collector.streaks
        self._gathered: list[PendingCall] = []
        self._gathered_bytes = 0
        self._first_gathered: float | None = None  # loop's time
        self._not_before = 0.0  # loop's time of the next batch
        self._most_lines = MOST_LINES
        self._timer: asyncio.TimerHandle | None = None
        self._stopped: Exception | None = None  # what waiting calls end with
        self._sender: asyncio.Task[None] | None = None
        self._open: dict[str, OpenBatch] = {}  # by name
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._sweeper = asyncio.get_running_loop().create_task(self._remove_ended())

    @property
    def in_flight(self) -> int:
        """Calls of this process in open batches. May be read in any thread."""
        return sum(len(batch.calls) for batch in list(self._open.values()))

    def submit(self, calls: Iterable[PendingCall]) -> None:
        """Gather calls, in their order."""
        for call in calls:
            self._gathered.append(call)
            self._gathered_bytes += len(call.request.prompt.encoded)
        self._set_timer()

    def send_ready(self) -> None:
        """Nothing: calls that nobody waits for any more are left out when a batch is made."""

    def stop(self, error: Exception) -> None:
        """Make no further batch. Calls that wait end with `error`; batches that are open go on at the server."""
        self._stopped = self._stopped or error
        self._fail_all(self._stopped)

    def _set_timer(self) -> None:
        """Send the gathered calls when no more have come for a while."""
        if self._stopped is not None:
            self._collector.fail(self._gathered, self._stopped)
            self._gathered = []
        if not self._gathered or self._sender is not None:
            return
        now = asyncio.get_running_loop().time()
        if self._first_gathered is None:
            self._first_gathered = now
        gather_s = self._settings.gather_s
        when = min(now + gather_s, self._first_gathered + _LONGEST_GATHERING * gather_s)
        if len(self._gathered) >= MOST_LINES or self._gathered_bytes >= MOST_BYTES:
            when = now
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(max(when, self._not_before), self._start_sending)

    def _start_sending(self) -> None:
        self._timer = None
        self._sender = asyncio.get_running_loop().create_task(self._send())
        self._sender.add_done_callback(self._sending_ended)

    def _sending_ended(self, task: asyncio.Task[None]) -> None:
        self._sender = None
        if not task.cancelled():
            self._set_timer()

    async def _send(self) -> None:
        """Make batches of the gathered calls; those that an open batch holds already wait for it."""
        gathered, self._gathered, self._gathered_bytes, self._first_gathered = self._gathered, [], 0, None
        calls = [call for call in gathered if self._single_flight.start(call)]
        try:
            for chunk in self._chunks(self._within_budget(await self._unattached(calls))):
                await self._make_batch(chunk)
        except BatchFault as fault:
            error = self._error_of(fault, calls[0].request.model)
            self._collector.fail(calls, error)
            if isinstance(fault.failure, Refused):
                self._fail_all(error)
        except asyncio.CancelledError:
            self._collector.fail(calls, _closed())
            raise
        except Exception as error:  # a store that is away, or a bug: the waiting threads must get the error
            self._collector.fail(calls, error)

    async def _unattached(self, calls: list[PendingCall]) -> list[PendingCall]:
        """The calls that no open batch holds, of this run or of an earlier one; the others wait for these."""
        remaining = {call.request.key: call for call in calls}
        for name in sorted(await asyncio.to_thread(self._records.names) - self._open.keys()):
            lines = await asyncio.to_thread(self._records.lines, name)
            state = await asyncio.to_thread(self._records.state, name)
            if lines is not None and state is not None and lines.kinds.keys() & remaining.keys():
                self._watch(OpenBatch(name, lines, state, self._manner.form.form, adopted=True))
        for batch in self._open.values():
            batch.attach([remaining.pop(key) for key in batch.lines.kinds.keys() & remaining.keys()])
        return list(remaining.values())

    async def _remove_ended(self) -> None:
        """Remove records of batches whose replies are all in the ledger: a run was killed before it did."""
        for name in await asyncio.to_thread(self._records.names):
            lines = await asyncio.to_thread(self._records.lines, name)
            if lines is not None and name not in self._open:
                keys = list(lines.kinds)
                if len(await asyncio.to_thread(self._ledger.holds, keys)) == len(keys):
                    await asyncio.to_thread(self._records.remove, name)

    def _within_budget(self, calls: list[PendingCall]) -> list[PendingCall]:
        """The calls that the budget allows now. The others wait while replies may make room, else they end."""
        for place, call in enumerate(calls):
            if self._collector.reserve(call):
                continue
            if self._collector.may_have_room():
                self._not_before = asyncio.get_running_loop().time() + self._settings.poll_s
                self._gather_again(calls[place:])
            else:  # the client raises one with figures
                self._collector.fail(calls[place:], BudgetReached("the budget is reached"))
            return calls[:place]
        return calls

    def _gather_again(self, calls: Iterable[PendingCall]) -> None:
        """Gather calls that were taken, or had no outcome."""
        calls = list(calls)
        for call in calls:
            self._single_flight.requeue(call)
        self.submit(calls)

    def _chunks(self, calls: Iterable[PendingCall]) -> Iterator[list[PendingCall]]:
        """Calls in groups that fit into a file; all of a group to one model and revision."""
        group: list[PendingCall] = []
        size = 0
        for call in calls:
            request = call.request
            line = len(request.prompt.encoded) + _LINE_BYTES + len(json.dumps(dict(request.parameters)))
            if group:
                other = group[-1].request
                full = len(group) >= self._most_lines or size + line > MOST_BYTES
                if full or (request.model, request.revision) != (other.model, other.revision):
                    yield group
                    group, size = [], 0
            group.append(call)
            size += line
        if group:
            yield group

    async def _make_batch(self, calls: list[PendingCall]) -> None:
        """Upload the calls, write down that their batch is about to be made, make it."""
        name = uuid.uuid4().hex
        form = self._manner.form.form
        with SpooledTemporaryFile(max_size=_IN_MEMORY) as temporary:
            file = cast(BinaryIO, temporary)
            await asyncio.to_thread(self._write_lines, file, calls, form)
            input_file = await self._server.upload(file, f"longmill-{name}.jsonl")
        first = calls[0].request
        lines = BatchLines(first.model, first.revision, {call.request.key: call.request.kind for call in calls})
        state = BatchState(input_file, time.time(), len(calls))
        await asyncio.to_thread(self._records.begin, name, lines, state)
        view = await self._create(name, state, first)
        state = replace(state, batch=view.batch, status=view.status)
        await asyncio.to_thread(self._records.update, name, state)
        batch = OpenBatch(name, lines, state, form)
        batch.attach(calls)
        self._watch(batch)

    def _write_lines(self, file: BinaryIO, calls: Iterable[PendingCall], form: RequestForm) -> None:
        for call in calls:
            file.write(request_line(call.request.key, route_of(self._url), form.body(call.request)))
        file.seek(0)

    async def _create(self, name: str, state: BatchState, request: Request) -> BatchView:
        """Make the batch of an uploaded file, exactly once.

        Raises BatchFault; the record is removed, unless the batch may have been made all the same.
        """
        attempt = 0
        while True:
            try:
                window = self._settings.completion_window
                return await self._server.create(state.input_file, route_of(self._url), window, name)
            except BatchFault as fault:
                failure = fault.failure
                if fault.is_open and (view := await self._server.find(state.input_file, name)) is not None:
                    return view
                waits = isinstance(failure, TemporaryFailure) and failure.busy and bool(self._open)
                attempt += not waits  # the batches that are open will end, and make room
                if isinstance(failure, Refused) or attempt >= self._limits.attempts:
                    if not fault.is_open:
                        await asyncio.to_thread(self._records.remove, name)
                    raise
                self._listener.waits(request, f"waits for room for a batch ({self._manner.redact(failure.detail)})")
                pause = self._settings.poll_s if waits else backoff(attempt, self._limits.backoff_s)
                await asyncio.sleep(pause)
                state = replace(state, at=time.time())
                await asyncio.to_thread(self._records.update, name, state)

    def _watch(self, batch: OpenBatch) -> None:
        self._open[batch.name] = batch
        self._watchers[batch.name] = asyncio.get_running_loop().create_task(self._follow(batch))

    async def _follow(self, batch: OpenBatch) -> None:
        """Wait for a batch and bring its outcomes home."""
        again: list[PendingCall] = []
        try:
            if batch.state.batch is None and not await self._was_made(batch):
                again = await self._collector.without_recorded(batch)
            else:
                again = await self._bring_home(batch, await self._end_of(batch))
        except BatchFault as fault:
            error = self._error_of(fault, batch.lines.model, batch)
            self._collector.fail(batch.attached, error)
            if isinstance(error, RefusedError):
                self._fail_all(error)
        except asyncio.CancelledError:
            self._collector.fail(batch.attached, _closed())
            raise
        except Exception as error:
            self._collector.fail(batch.attached, error)
        finally:
            del self._open[batch.name], self._watchers[batch.name]
        self._gather_again(again)

    async def _was_made(self, batch: OpenBatch) -> bool:
        """Whether a batch without an id in its record is there; if not, the record is removed."""
        while True:
            view = await self._server.find(batch.state.input_file, batch.name)
            if view is not None:
                batch.state = replace(batch.state, batch=view.batch, status=view.status)
                await asyncio.to_thread(self._records.update, batch.name, batch.state)
                return True
            state = await asyncio.to_thread(self._records.state, batch.name)
            if state is None:
                return False
            batch.state = state
            if state.batch is not None:  # the process that was about to make it has
                return True
            if time.time() > state.at + LOST_S:
                await asyncio.to_thread(self._records.remove, batch.name)
                return False
            await asyncio.sleep(min(_FIRST_LOOK_S, self._settings.poll_s))

    async def _end_of(self, batch: OpenBatch) -> BatchView:
        """Look at a batch until it has ended. Raises BatchFault."""
        assert batch.state.batch is not None
        pause, faults = min(_FIRST_LOOK_S, self._settings.poll_s), 0
        while True:
            await asyncio.sleep(pause)
            pause = min(self._settings.poll_s, 1.5 * pause)
            try:
                view = await self._server.look(batch.state.batch)
            except BatchFault as fault:
                faults += 1
                if isinstance(fault.failure, Refused) or faults >= self._limits.attempts:
                    raise
                continue
            faults = 0
            if (view.status, view.done) != (batch.state.status, batch.state.done):
                batch.state = replace(batch.state, status=view.status, done=view.done)
                await asyncio.to_thread(self._records.update, batch.name, batch.state)
            ended = view.status in ENDED
            for call in batch.calls.values():
                done = f"{batch.state.done:,} of {batch.state.total:,} done"
                self._listener.waits(call.request, "" if ended else f"waits for batch {batch.state.batch}: {done}")
                break
            if ended:
                return view

    async def _bring_home(self, batch: OpenBatch, view: BatchView) -> list[PendingCall]:
        """The outcomes of a batch that has ended; returns the calls to send again."""
        if view.status == FAILED:
            await asyncio.to_thread(self._records.remove, batch.name)
            return self._not_taken(batch, view)
        if view.completed and view.output_file is None:
            raise without_file(self._url, view, self._records.place(batch.name))
        again, error = await self._collector.collect(batch, view, self._server)
        await asyncio.to_thread(self._records.remove, batch.name)
        self._not_before = 0.0  # there is room for another
        if error is not None:
            self._collector.fail(batch.attached, error)
            self._fail_all(error)
            return []
        return again

    def _not_taken(self, batch: OpenBatch, view: BatchView) -> list[PendingCall]:
        """The calls to send again after a batch that the server has refused whole; nothing of it was run or paid."""
        words = "; ".join(str(error["message"] or error["code"]) for error in view.errors[:3]) or "it says no reason"
        codes = " ".join(str(error["code"]) for error in view.errors[:3])
        calls, batch.calls = list(batch.calls.values()), {}
        alone = len(self._open) == 1
        if _NO_ROOM.search(f"{codes} {words}") and not (alone and len(batch.lines.kinds) == 1):
            if alone:
                self._most_lines = max(1, len(batch.lines.kinds) // 2)
            else:
                self._not_before = asyncio.get_running_loop().time() + self._settings.poll_s
            for call in calls:
                self._collector.release(call)
            return calls
        body = json.dumps({"error": {"message": f"the batch failed: {words}", "code": codes}})
        refusal = classify_refusal(400, body)
        if refusal.subject != "passing":
            raise BatchFault(Refused(400, body, refusal), 400)
        return self._collector.retried(calls, TemporaryFailure("server_error", f"the batch failed: {words}"))

    def _fail_all(self, error: Exception) -> None:
        """End all calls; batches that are open go on, and their replies are recorded."""
        self._collector.fail(self._gathered, error)
        self._gathered, self._gathered_bytes, self._first_gathered = [], 0, None
        for batch in self._open.values():
            batch.calls = {}
            self._collector.fail(batch.attached, error)

    def _error_of(self, fault: BatchFault, model: str, batch: OpenBatch | None = None) -> Exception:
        """A fault in words: what happened, with the server's own, and what to do."""
        words = self._manner.redact(fault.failure.detail).rstrip(".")
        if batch is not None and fault.status == 404:
            return ModelError(
                f"{self._url} does not know batch {batch.state.batch}, or a file of it, any more: {words}. Use the key "
                f"and endpoint that it was made with; if it is lost, remove {self._records.place(batch.name)} to have "
                "its requests asked, and paid, again"
            )
        if not isinstance(fault.failure, Refused):
            return ModelError(
                f"{self._url}: {words}. Batches that were made go on at the server; run again later to collect them"
            )
        if fault.status in (404, 405, 501):
            return RefusedError(
                f"{self._url} has no batches: {words}. With mode: live the model is called for each request"
            )
        return refused_error(self._url, model, fault.failure, self._manner)

    async def close(self, grace_s: float) -> None:
        """Leave open batches running, let what is being recorded finish for `grace_s` seconds, disconnect."""
        if self._timer is not None:
            self._timer.cancel()
        self._collector.fail(self._gathered, _closed())
        self._gathered = []
        tasks: set[asyncio.Task[None]] = {self._sweeper, *self._watchers.values()}
        for batch in self._open.values():
            if batch.collecting:
                continue
            self._watchers[batch.name].cancel()
            if batch.state.batch is not None:
                done = f"{batch.state.done:,} of {batch.state.total:,} done"
                self._say(f"batch {batch.state.batch} goes on at {self._url}, {done}; the same command collects it")
        if self._sender is not None:
            tasks.add(self._sender)
        _, late = await asyncio.wait(tasks, timeout=grace_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for watcher in list(self._watchers.values()):  # of batches that were made meanwhile
            watcher.cancel()
        await self._server.close()


def _closed() -> ModelError:
    return ModelError("the model client was closed; batches that were made go on, and the same command collects them")
