"""The stub model server of flows/bench with faults on demand, in a thread of the test (`running_stub`).

Answers are a pure function of the request body (see `flows.bench.stub_server`). Tests may change the options while the
stub runs, and stop it from replying for a while (`hold`, `release`).
"""

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from flows.bench import stub_server
from flows.bench.stub_server import MODEL, chat_response, stub_answer


@dataclass
class StubOptions:
    """What a stub does; every option may be changed while it runs.

    A fault is a status ("500", "429"), a status with Retry-After in seconds ("429:2"), "reset", "garbage" (200,
    not JSON), "empty_choices" or "ok". The next chat requests take one item of `script` each; after that every
    `fail_every`-th request gets `fault`.
    """

    latency: float = 0.0  # seconds before each reply
    script: list[str] = field(default_factory=list)
    fail_every: int = 0
    fault: str = "500"
    busy_above: int = 0  # more chat requests at once than this get 429; 0: no limit
    prompt_limit: int = 0  # words; longer prompts get vLLM's 400
    max_model_len: int | None = None  # in the list of models, as vLLM has it
    filter_word: str = ""  # a prompt with it gets the content filter's 400
    broken_word: str = ""  # a prompt with it gets a 500
    empty_word: str = ""  # a prompt with it gets an empty completion
    die_after: int = 0  # after so many chat requests the listening socket closes and all connections reset
    api_key: str = ""  # other bearer tokens get 401
    model: str = MODEL  # other names get 404
    compress: bool = False
    per_window: int = 0  # chat requests in a window; further ones get a 429 with `window_words` and `window_headers`
    window_s: float = 60.0
    window_words: str = "Requests per minute limit exceeded"
    window_headers: Callable[[int, float], dict[str, str]] | None = None  # of every reply: requests and seconds left
    refuses: dict[str, str] = field(default_factory=dict)  # a body with this field gets a 400 with this message
    without_usage: bool = False
    cached_tokens: int = 0  # of every prompt, as vLLM says it with --enable-prompt-tokens-details


class StubServer(stub_server.StubServer):
    """The stub with its options and a log of what has arrived."""

    def __init__(self, options: StubOptions) -> None:
        super().__init__()
        self.options = options
        self.in_flight = 0
        self.max_in_flight = 0
        self.log: list[dict[str, Any]] = []  # prompt (60 characters), seed, status, ...; by arrival
        self.headers: dict[str, str] = {}  # of the last request
        self.of_window: Counter[int] = Counter()  # requests taken, by window
        self.lists_read = 0  # requests for the list of models
        self.fields: dict[str, Any] = {}  # of its body, without the messages
        self.arrived = threading.Condition()
        self.witness: Callable[[], Any] = lambda: None  # its result at a request's arrival goes into the log
        self._gate = asyncio.Event()
        self._gate.set()
        self._dying: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def stats(self) -> dict[str, Any]:
        return super().stats() | {"max_in_flight": self.max_in_flight, "in_flight": self.in_flight}

    async def _models(self, request: web.Request) -> web.Response:
        self.lists_read += request.path == "/v1/models"
        model = {"id": self.options.model, "object": "model", "max_model_len": self.options.max_model_len}
        return web.json_response({"object": "list", "data": [model]})

    async def start(self, port: int = 0) -> None:
        self._loop = asyncio.get_running_loop()
        await super().start(port)

    async def stop(self) -> None:
        self._gate.set()
        await super().stop()

    def hold(self) -> None:
        """Let chat requests arrive but not be replied to, until `release`. Callable from any thread."""
        self._in_loop(self._gate.clear)

    def release(self) -> None:
        """Reply to the requests that `hold` stopped."""
        self._in_loop(self._gate.set)

    def wait_for(self, requests: int, timeout: float = 20) -> None:
        """Wait in a test's thread until so many chat requests have arrived in all."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: self.requests >= requests, timeout), self.stats()

    def _in_loop(self, function: Callable[[], object]) -> None:
        """Call a function in the stub's event loop, and wait until it has run."""
        assert self._loop is not None
        done = threading.Event()
        self._loop.call_soon_threadsafe(function)
        self._loop.call_soon_threadsafe(done.set)
        assert done.wait(10)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw)
        content = body["messages"][-1]["content"]
        entry = {"prompt": content[:60], "seed": body.get("seed"), "status": 0, "at": time.monotonic()}
        entry["witness"] = self.witness()
        with self.arrived:
            self.requests += 1
            number = self.requests
            self.log.append(entry)
            self.headers = dict(request.headers)
            self.fields = {name: value for name, value in body.items() if name != "messages"}
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
            self.arrived.notify_all()
        try:
            await self._gate.wait()
            options = self.options
            if options.latency:
                await asyncio.sleep(options.latency)
            response = self._fault_response(request, body, number) or self._answer(raw, body, content)
        finally:
            self.in_flight -= 1
        if options.window_headers is not None:
            window_end = options.window_s * (time.time() // options.window_s + 1)
            left = max(0, options.per_window - self.of_window[int(time.time() // options.window_s)])
            response.headers.update(options.window_headers(left, window_end - time.time()))
        entry["status"] = response.status
        self._count_reply(raw, response)
        return response

    def _fault_response(self, request: web.Request, body: dict[str, Any], number: int) -> web.Response | None:
        options = self.options
        if options.die_after and number > options.die_after:
            _reset(request)
            self._dying = asyncio.ensure_future(self.stop())
        fault = options.script.pop(0) if options.script else "ok"
        if fault == "ok" and options.fail_every and number % options.fail_every == 0:
            fault = options.fault
        if options.busy_above and self.in_flight > options.busy_above:
            fault = "429"
        if fault != "ok":
            return _fault(request, fault)
        if options.per_window:  # -1: none
            window = int(time.time() // options.window_s)
            if self.of_window[window] >= options.per_window:
                return _error(429, options.window_words, "rate_limit_exceeded")
            self.of_window[window] += 1
        for name, message in options.refuses.items():
            if name in body:
                return _error(400, message, "invalid_request_error")
        if options.api_key and request.headers.get("Authorization") != f"Bearer {options.api_key}":
            key = request.headers.get("Authorization", "none").removeprefix("Bearer ")
            return _error(401, f"Incorrect API key provided: {key}.", "invalid_api_key")
        if body["model"] != options.model:
            return _error(404, f"The model `{body['model']}` does not exist.", "model_not_found")
        return None

    def _answer(self, raw: bytes, body: dict[str, Any], content: str) -> web.Response:
        options = self.options
        words = content.split()
        if options.prompt_limit and len(words) > options.prompt_limit:
            return _error(
                400,
                f"This model's maximum context length is {options.prompt_limit} tokens. However, you requested "
                f"{body.get('max_tokens', 16)} output tokens and your prompt contains {len(words)} input tokens. "
                "Please reduce the length of the input prompt or the number of requested output tokens.",
                "BadRequestError",
            )
        if options.broken_word and options.broken_word in content:
            return _error(500, "EngineCore encountered an issue", "InternalServerError")
        if options.filter_word and options.filter_word in content:
            return _error(400, "The prompt was filtered by the content management policy.", "content_filter")
        text = "" if options.empty_word and options.empty_word in content else stub_answer(content, body.get("seed"))
        reply = chat_response(raw, body, content, text)
        if options.without_usage:
            assert reply.text is not None
            reply = web.json_response(json.loads(reply.text) | {"usage": None})
        if options.cached_tokens:
            assert reply.text is not None
            answered = json.loads(reply.text)
            answered["usage"]["prompt_tokens_details"] = {"cached_tokens": options.cached_tokens}
            reply = web.json_response(answered)
        if options.compress:
            reply.enable_compression()
        return reply

    def _model_name(self) -> str:
        return self.options.model


def _error(status: int, message: str, code: str, headers: dict[str, str] | None = None) -> web.Response:
    error = {"message": message, "type": code, "param": None, "code": code}
    return web.json_response({"error": error}, status=status, headers=headers)


def _fault(request: web.Request, fault: str) -> web.Response:
    if fault == "reset":
        _reset(request)
        return web.Response(status=500)
    if fault == "garbage":
        return web.Response(text="<html>not a completion</html>")
    if fault == "empty_choices":
        return web.json_response({"object": "chat.completion", "choices": []})
    status, _, retry_after = fault.partition(":")
    return _error(
        int(status), f"asked for {status}", "stub_fault", {"Retry-After": retry_after} if retry_after else None
    )


def _reset(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


@contextlib.contextmanager
def running_stub(
    port: int = 0, make: Callable[[StubOptions], "StubServer"] = StubServer, **options: Any
) -> Iterator[StubServer]:
    """A stub in a thread of this process, on a free port if none is given, for as long as the block runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="stub-server", daemon=True)
    thread.start()
    stub = asyncio.run_coroutine_threadsafe(_start(make, StubOptions(**options), port), loop).result(10)
    try:
        yield stub
    finally:
        asyncio.run_coroutine_threadsafe(_stop(stub), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _stop(stub: StubServer) -> None:
    """Stop a stub, and see its connections closed: also one that was being accepted meanwhile."""
    await stub.stop()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0)  # transports close their sockets in the loop's next round


async def _start(make: Callable[[StubOptions], StubServer], options: StubOptions, port: int) -> StubServer:
    stub = make(options)
    await stub.start(port)
    return stub
