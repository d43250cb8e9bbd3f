"""A stub of OpenAI's files and batches on top of the stub server: the same answers as its live calls.

A batch moves on at each look at it: validating, in_progress, finalizing, then its end. What ends it, and what goes
wrong on the way, are options that a test may change while the stub runs. `answered` counts replies by request, so
`paid_twice` tells whether a request was paid for again.
"""

import asyncio
import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from flows.bench.stub_server import chat_response
from tests.support.stub_server import StubOptions, StubServer, running_stub

Line = dict[str, Any]


@dataclass
class BatchOptions:
    """What happens to batches."""

    endings: list[str] = field(default_factory=list)  # of the next batches; "completed" when the list is used up
    answered_share: float = 0.5  # of the lines of a batch that expires or is cancelled
    failures: list[tuple[str, str]] = field(default_factory=list)  # code and message of batches that end in "failed"
    create_faults: list[str] = field(default_factory=list)  # "429", "400", "500", "500 made", "lost made"
    room: int = 0  # lines that may be enqueued at once; more fail a batch with token_limit_exceeded; 0: no limit
    line_faults: Callable[[Line], tuple[int, Any] | None] = lambda body: None  # status and body in place of an answer
    change_output: Callable[[list[bytes]], list[bytes]] = lambda lines: lines  # of the files that come down
    reply: Callable[[Line], str] | None = None  # the text of an answer, by batch and live; None: the stub's own
    names_files: bool = True
    stops_at: str = ""  # "upload", "create", "made", "look", "content": requests there wait until `go_on`
    file_faults: list[int] = field(default_factory=list)  # statuses of the next downloads


class BatchStub(StubServer):
    """The stub with /v1/files and /v1/batches."""

    def __init__(self, options: StubOptions) -> None:
        super().__init__(options)
        self.batching = BatchOptions()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}  # by id, in the order in which they were made
        self.uploads = 0
        self.looks = 0
        self.headers_of_files: Any = {}
        self.stopped = threading.Event()  # a request waits where `stops_at` says
        self._goes_on = asyncio.Event()

    @property
    def sizes(self) -> list[int]:
        """Lines of all batches."""
        return [batch["request_counts"]["total"] for batch in self.batches.values()]

    def go_on(self) -> None:
        """Let the requests that were stopped go on, and stop no more."""
        self.batching.stops_at = ""
        self._in_loop(self._goes_on.set)

    def add_routes(self, app: web.Application) -> None:
        """The routes of the protocol."""
        app.router.add_post("/v1/files", self._upload)
        app.router.add_get("/v1/files/{id}/content", self._content)
        app.router.add_post("/v1/batches", self._create)
        app.router.add_get("/v1/batches", self._list)
        app.router.add_get("/v1/batches/{id}", self._look)

    async def _stop_at(self, place: str) -> None:
        if self.batching.stops_at == place:
            self.stopped.set()
            await self._goes_on.wait()

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        self.headers_of_files = request.headers.copy()
        form = await request.post()
        assert form["purpose"] == "batch"
        content = form["file"].file.read()  # type: ignore[union-attr]
        self.uploads += 1
        name = f"file-{self.uploads}"
        self.files[name] = content
        await self._stop_at("upload")
        body = {"id": name, "object": "file", "bytes": len(content), "created_at": 0, "filename": "x", "status": "ok"}
        return web.json_response(body | {"purpose": "batch"})

    async def _create(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        await self._stop_at("create")
        fault = self.batching.create_faults.pop(0) if self.batching.create_faults else ""
        status, _, made = fault.partition(" ")
        if fault and not made:
            return _error(int(status), f"asked for {fault}")
        lines = [json.loads(line) for line in self.files[body["input_file_id"]].splitlines()]
        assert {line["url"] for line in lines} == {body["endpoint"]} == {"/v1/chat/completions"}
        name = f"batch_{len(self.batches) + 1}"
        ending = self.batching.endings.pop(0) if self.batching.endings else "completed"
        batch = {
            "id": name,
            "object": "batch",
            "endpoint": body["endpoint"],
            "completion_window": body["completion_window"],
            "created_at": int(time.time()),
            "input_file_id": body["input_file_id"],
            "metadata": body["metadata"],
            "status": "validating",
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
            "ending": ending,
        }
        waiting = sum(other["request_counts"]["total"] for other in self.batches.values() if not _has_ended(other))
        if self.batching.room and waiting + len(lines) > self.batching.room:
            batch["ending"] = "failed"
            batch["reason"] = ("token_limit_exceeded", "Enqueued token limit reached for stub in organization org-1.")
        elif ending == "failed":
            batch["reason"] = self.batching.failures.pop(0)
        self.batches[name] = batch
        await self._stop_at("made")
        if status == "lost":
            assert request.transport is not None
            request.transport.abort()
        if made:
            return _error(int(status) if status.isdigit() else 500, f"asked for {fault}")
        return web.json_response(_shown(batch))

    async def _list(self, request: web.Request) -> web.StreamResponse:
        newest_first = [_shown(batch) for batch in reversed(self.batches.values())]
        return web.json_response({"object": "list", "data": newest_first, "has_more": False})

    async def _look(self, request: web.Request) -> web.StreamResponse:
        await self._stop_at("look")
        self.looks += 1
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            return _error(404, "No batch found with this id.")
        if not _has_ended(batch):
            self._move_on(batch)
        return web.json_response(_shown(batch))

    async def _content(self, request: web.Request) -> web.StreamResponse:
        await self._stop_at("content")
        if self.batching.file_faults:
            return _error(self.batching.file_faults.pop(0), "the file cannot be had")
        return web.Response(body=self.files[request.match_info["id"]])

    def _move_on(self, batch: dict[str, Any]) -> None:
        following = {"validating": "in_progress", "in_progress": "finalizing", "finalizing": batch["ending"]}
        if batch["ending"] == "failed":
            batch["status"] = "failed"
            code, message = batch["reason"]
            batch["errors"] = {"object": "list", "data": [{"code": code, "message": message, "line": None}]}
            return
        batch["status"] = following[batch["status"]]
        if batch["status"] == "finalizing":
            self._answer_lines(batch)

    def _answer_lines(self, batch: dict[str, Any]) -> None:
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        share = 1.0 if batch["ending"] == "completed" else self.batching.answered_share
        output: list[bytes] = []
        errors: list[bytes] = []
        for place, line in enumerate(lines):
            if place >= share * len(lines):
                if place % 2 == 0:  # some have a line that says so, others are missing
                    error = {"code": f"batch_{batch['ending']}", "message": "This request could not be executed."}
                    errors.append(_outcome(line, None, error))
                continue
            status, body = self.batching.line_faults(line["body"]) or self._answer_line(line["body"])
            response = {"status_code": status, "request_id": "r", "body": body}
            (output if status == 200 else errors).append(_outcome(line, response, None))
        counts = batch["request_counts"]
        counts["completed"], counts["failed"] = len(output), len(errors)
        for kind, rows in (("output", output), ("error", errors)):
            rows = self.batching.change_output(rows)
            if rows and self.batching.names_files:
                name = f"{kind}-{batch['id']}"
                self.files[name] = b"".join(rows)
                batch[f"{kind}_file_id"] = name

    def _answer(self, raw: bytes, body: dict[str, Any], content: str) -> web.Response:
        reply = self.batching.reply
        return super()._answer(raw, body, content) if reply is None else chat_response(raw, body, content, reply(body))

    def _answer_line(self, body: dict[str, Any]) -> tuple[int, Any]:
        raw = json.dumps(body, sort_keys=True).encode()
        response = self._answer(raw, body, body["messages"][-1]["content"])
        self._count_reply(raw, response)
        assert response.text is not None
        return response.status, json.loads(response.text)


def _has_ended(batch: dict[str, Any]) -> bool:
    return batch["status"] in ("completed", "failed", "expired", "cancelled")


def _shown(batch: dict[str, Any]) -> dict[str, Any]:
    shown = {name: value for name, value in batch.items() if name not in ("ending", "reason")}
    if not _has_ended(batch):
        for name in ("output_file_id", "error_file_id"):
            shown.pop(name, None)
    return shown


def _outcome(line: Line, response: Any, error: Any) -> bytes:
    number = hashlib.sha256(line["custom_id"].encode()).hexdigest()[:8]
    outcome = {"id": f"batch_req_{number}", "custom_id": line["custom_id"], "response": response, "error": error}
    return json.dumps(outcome, ensure_ascii=False).encode() + b"\n"


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "stub", "code": None}}, status=status)


@contextlib.contextmanager
def running_batches(port: int = 0, **options: Any) -> Iterator[BatchStub]:
    """A stub with batches; `options` are those of `BatchOptions` or `StubOptions`."""
    own = {name: options.pop(name) for name in list(options) if name in BatchOptions.__dataclass_fields__}
    with running_stub(port, BatchStub, **options) as stub:
        assert isinstance(stub, BatchStub)
        for name, value in own.items():
            setattr(stub.batching, name, value)
        yield stub
