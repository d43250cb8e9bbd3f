"""A stub of an OpenAI-compatible server: no model, the same reply to the same request, faults on demand.

A reply is a pure function of the request body: a few candidate answers are built from words of the prompt and the
seed chooses one, so that samples of a question agree often enough for a consensus. The stub runs in a thread of the
test (`running_stub`) or as a process (`python -m tests.support.stub_server --port 0`, which prints its port).
`--fixed` serves one constant reply with as little work as possible, for measuring clients. What it leaves out:
streaming, tools, `n` > 1, real token counts (a word is a token).
"""

import argparse
import asyncio
import contextlib
import dataclasses
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.fixed_server import serve_fixed
from tests.support.stub_replies import MODEL, completion, stub_answer, stub_embedding


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
    filter_word: str = ""  # a prompt with it gets the content filter's 400
    empty_word: str = ""  # a prompt with it gets an empty completion
    die_after: int = 0  # after so many chat requests the listening socket closes and all connections reset
    api_key: str = ""  # other bearer tokens get 401
    model: str = MODEL  # other names get 404
    compress: bool = False


class StubServer:
    """The aiohttp application, its options, and a record of the requests."""

    def __init__(self, options: StubOptions) -> None:
        self.options = options
        self.port = 0
        self.requests = 0
        self.in_flight = 0
        self.max_in_flight = 0
        self.answered: Counter[str] = Counter()  # sha256 of the body → chat replies sent with 200
        self.log: list[dict[str, Any]] = []  # prompt (60 characters), seed, status, ...; by arrival
        self.headers: dict[str, str] = {}  # of the last request
        self.arrived = threading.Condition()
        self.witness: Callable[[], Any] = lambda: None  # its result at a request's arrival goes into the log
        self._gate = asyncio.Event()
        self._gate.set()
        self._runner: web.AppRunner | None = None
        self._dying: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def paid_twice(self) -> int:
        return sum(count - 1 for count in self.answered.values())

    def stats(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "answered": sum(self.answered.values()),
            "distinct": len(self.answered),
            "paid_twice": self.paid_twice,
            "max_in_flight": self.max_in_flight,
            "in_flight": self.in_flight,
        }

    async def start(self, port: int = 0) -> None:
        app = web.Application(client_max_size=2**28)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._models)
        app.router.add_get("/stub/stats", self._stats)
        app.router.add_post("/stub/options", self._set_options)
        self._loop = asyncio.get_running_loop()
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, backlog=2048)
        await site.start()
        assert self._runner.addresses
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self._gate.set()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

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
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
            self.arrived.notify_all()
        try:
            await self._gate.wait()
            if self.options.latency:
                await asyncio.sleep(self.options.latency)
            response = self._fault_response(request, body, number) or self._answer(raw, body, content)
        finally:
            self.in_flight -= 1
        entry["status"] = response.status
        if response.status == 200:
            self.answered[hashlib.sha256(raw).hexdigest()] += 1
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
        if options.filter_word and options.filter_word in content:
            return _error(400, "The prompt was filtered by the content management policy.", "content_filter")
        text = "" if options.empty_word and options.empty_word in content else stub_answer(content, body.get("seed"))
        reply = web.json_response(completion(body["model"], text, body.get("max_tokens", 2**20), raw, len(words)))
        if options.compress:
            reply.enable_compression()
        return reply

    async def _embeddings(self, request: web.Request) -> web.Response:
        body = await request.json()
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        data = []
        for index, text in enumerate(texts):
            data.append({"object": "embedding", "index": index, "embedding": stub_embedding(text)})
        tokens = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return web.json_response({"object": "list", "model": body["model"], "data": data, "usage": usage})

    async def _models(self, request: web.Request) -> web.Response:
        data = [{"id": self.options.model, "object": "model", "created": 0, "owned_by": "stub"}]
        return web.json_response({"object": "list", "data": data})

    async def _stats(self, request: web.Request) -> web.Response:
        return web.json_response(self.stats())

    async def _set_options(self, request: web.Request) -> web.Response:
        self.options = dataclasses.replace(self.options, **await request.json())
        return web.json_response(dataclasses.asdict(self.options))


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
        asyncio.run_coroutine_threadsafe(stub.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _start(make: Callable[[StubOptions], StubServer], options: StubOptions, port: int) -> StubServer:
    stub = make(options)
    await stub.start(port)
    return stub


async def _serve(port: int, options: StubOptions, fixed: bool) -> None:
    if fixed:
        server = await serve_fixed(port)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()
    else:
        stub = StubServer(options)
        await stub.start(port)
        print(stub.port, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--fixed", action="store_true", help="one constant reply, for measuring clients")
    parser.add_argument("--script", action="append", default=[], help="a fault for the next request; repeatable")
    for name in ("latency", "fail_every", "busy_above", "prompt_limit", "die_after"):
        kind = float if name == "latency" else int
        parser.add_argument("--" + name.replace("_", "-"), type=kind, default=0)
    for name in ("fault", "filter_word", "empty_word", "api_key", "model"):
        parser.add_argument("--" + name.replace("_", "-"), default=getattr(StubOptions(), name))
    arguments = vars(parser.parse_args())
    port, fixed = arguments.pop("port"), arguments.pop("fixed")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(port, StubOptions(**arguments), fixed))


if __name__ == "__main__":
    main()
