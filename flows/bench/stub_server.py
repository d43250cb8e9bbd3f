"""A stub that speaks the OpenAI protocol: no model, and the same reply to the same request.

For benchmarks and tests. A chat reply is a pure function of the request's body: four candidate answers are made of
words of the prompt and the seed chooses one, so that samples of a question agree often enough for a consensus.
`python -m flows.bench.stub_server --port 0` serves until it is killed and prints its port. With `--fixed` it sends
the same bytes to every request from a bare asyncio protocol: as little work as a server can do, for measuring clients.
Leaves out: streaming, tools, `n` > 1, real token counts (a word is a token), faults (the tests' stub adds them).
"""

import argparse
import asyncio
import hashlib
import json
import socket
from collections import Counter
from typing import Any

from aiohttp import web

MODEL = "stub"
_WEIGHTS = (0, 0, 0, 0, 1, 1, 1, 2, 2, 3)  # the candidate that a seed's hash chooses: 0 four times in ten, 3 once


class StubServer:
    """The aiohttp application and its counts."""

    def __init__(self, latency_s: float = 0.0) -> None:
        self.latency_s = latency_s  # before each chat reply
        self.port = 0
        self.requests = 0  # chat requests
        self.answered: Counter[str] = Counter()  # sha256 of the body → chat replies sent with 200
        self._runner: web.AppRunner | None = None
        self._listener: socket.socket | None = None

    @property
    def url(self) -> str:
        """The base URL of the API."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def paid_twice(self) -> int:
        """Replies to requests that had been answered before."""
        return self.answered.total() - len(self.answered)

    def stats(self) -> dict[str, Any]:
        """The counts that /stub/stats returns."""
        return {
            "requests": self.requests,
            "answered": self.answered.total(),
            "distinct": len(self.answered),
            "paid_twice": self.paid_twice,
        }

    async def start(self, port: int = 0) -> None:
        """Listen on 127.0.0.1; port 0 takes a free one, which `port` then names."""
        app = web.Application(client_max_size=2**28)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._models)
        app.router.add_get("/stub/stats", self._stats)
        self.add_routes(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=2048)
        await web.SockSite(self._runner, self._listener, backlog=2048).start()
        self.port = self._listener.getsockname()[1]

    def add_routes(self, app: web.Application) -> None:
        """For further routes of a stub that can do more."""

    async def stop(self) -> None:
        """Close the socket and all connections."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            assert self._listener is not None
            await accept_no_more(self._listener)
            await runner.cleanup()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw)
        self.requests += 1
        await asyncio.sleep(self.latency_s)
        response = self._answer(raw, body, body["messages"][-1]["content"])
        self._count_reply(raw, response)
        return response

    def _answer(self, raw: bytes, body: dict[str, Any], content: str) -> web.Response:
        """The response to a chat request; `content` is the text of its last message."""
        text = stub_answer(content, body.get("seed"))
        return chat_response(raw, body, content, text)

    def _count_reply(self, raw: bytes, response: web.StreamResponse) -> None:
        if response.status == 200:
            self.answered[hashlib.sha256(raw).hexdigest()] += 1

    async def _embeddings(self, request: web.Request) -> web.Response:
        body = await request.json()
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        rows = []
        tokens = 0
        for index, text in enumerate(texts):
            rows.append({"object": "embedding", "index": index, "embedding": stub_embedding(text)})
            tokens += len(text.split())
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return web.json_response({"object": "list", "model": body["model"], "data": rows, "usage": usage})

    async def _models(self, request: web.Request) -> web.Response:
        model = {"id": self._model_name(), "object": "model", "created": 0, "owned_by": "stub"}
        return web.json_response({"object": "list", "data": [model]})

    def _model_name(self) -> str:
        return MODEL

    async def _stats(self, request: web.Request) -> web.Response:
        return web.json_response(self.stats())


async def accept_no_more(listener: socket.socket) -> None:
    """Accept no further connections of an asyncio server, which may be closed after this.

    A server that is closed just after it has accepted a connection leaves the connection's socket open (Python 3.11):
    here such connections are first made whole, so that they are closed with the others.
    """
    asyncio.get_running_loop().remove_reader(listener)
    for _ in range(5):  # rounds of the loop from the socket that was accepted to the task that serves it
        await asyncio.sleep(0)


def stub_answer(content: str, seed: int | None) -> str:
    """One of four candidate answers made of the prompt's last words; the same for the same prompt and seed."""
    words = [word for word in content[-2000:].split() if word.isalnum()] or ["nothing"]
    weight = hashlib.sha256(str(seed).encode()).digest()[0] % len(_WEIGHTS)
    digest = hashlib.sha256(f"{_WEIGHTS[weight]}|".encode() + content.encode("utf-8", "surrogatepass")).digest()
    answer = "The answer is"
    for byte in digest[:6]:
        answer += f" {words[byte % len(words)]}"
    return f"{answer}."


def stub_embedding(text: str, dimensions: int = 32) -> list[float]:
    """A bag of hashed words, L2-normalised: texts that share words lie close."""
    vector = [0.0] * dimensions
    for word in text.split() or [""]:
        digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
        vector[digest[0] % dimensions] += 1.0 if digest[1] % 2 else -1.0
    norm = sum(value * value for value in vector) ** 0.5 or 1.0
    return [value / norm for value in vector]


def chat_response(raw: bytes, body: dict[str, Any], content: str, text: str) -> web.Response:
    """A chat completion of `text` as an HTTP response."""
    return web.json_response(
        completion(body["model"], text, body.get("max_tokens", 2**20), raw, len(content.split())),
    )


def completion(model: str, text: str, max_tokens: int, raw: bytes, prompt_tokens: int) -> dict[str, Any]:
    """A chat completion of `text`, cut at `max_tokens` words. It holds no time, so its bytes are always the same."""
    words = text.split()
    cut = len(words) > max_tokens
    message = {"role": "assistant", "content": " ".join(words[:max_tokens]) if cut else text}
    tokens = min(len(words), max_tokens)
    return {
        "id": "chatcmpl-" + hashlib.sha256(raw).hexdigest()[:16],
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "length" if cut else "stop", "logprobs": None}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": prompt_tokens + tokens,
        },
    }


class FixedReply(asyncio.Protocol):
    """The same reply to every request: HTTP/1.1 keep-alive, POST with Content-Length, one request at a time."""

    def __init__(self, reply: bytes) -> None:
        self._reply = reply

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request's head."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._head = b""
        self._body_left = 0

    def data_received(self, data: bytes) -> None:
        """Read on, and reply when the body is whole."""
        if self._body_left == 0:
            self._head += data
            head, end, body = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._body_left = _content_length(head)
            self._head, data = b"", body
        self._body_left -= len(data)
        if self._body_left <= 0:
            self._body_left = 0
            self._transport.write(self._reply)


def _content_length(head: bytes) -> int:
    lowered = head.lower()
    start = lowered.find(b"content-length:")
    if start < 0:
        return 0
    return int(lowered[start + len(b"content-length:") :].split(b"\r\n", 1)[0])


def fixed_reply() -> bytes:
    """The bytes of an HTTP response that answers a prompt of 32,768 tokens."""
    body = json.dumps(completion(MODEL, stub_answer("a fixed reply", 0), 64, b"fixed", 32768)).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def serve(stub: StubServer, port: int) -> None:
    """Start a stub, print its port, and serve until the process is killed."""
    await stub.start(port)
    print(stub.port, flush=True)
    await asyncio.Event().wait()


async def serve_fixed(port: int) -> None:
    """Send the fixed reply to every request; prints the port, and serves until the process is killed."""
    reply = fixed_reply()
    server = await asyncio.get_running_loop().create_server(lambda: FixedReply(reply), "127.0.0.1", port, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve the stub that the arguments describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each chat reply")
    parser.add_argument("--fixed", action="store_true", help="one constant reply, for measuring clients")
    arguments = parser.parse_args()
    if arguments.fixed:
        asyncio.run(serve_fixed(arguments.port))
    else:
        asyncio.run(serve(StubServer(arguments.latency), arguments.port))


if __name__ == "__main__":
    main()
