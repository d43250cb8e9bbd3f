"""An HTTP proxy before an S3 server, in a thread of the test, that fails the requests that a test chooses."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import aiohttp
from aiohttp import web

from flows.bench.stub_server import accept_no_more

Choice = Callable[[str, str], str]  # method and path of a request -> its fault, "" for none

_SKEWED = "The difference between the request time and the current time is too large."


class S3Faults:
    """Faults: "503" (the server sheds load), "lost" (done, but the reply never comes), "cut" (half of the reply comes),
    "skewed" (the server's clock is another). `faulted`: fault, method and path of the requests that had one.
    """

    def __init__(self, target: str) -> None:
        self.choose: Choice = lambda method, path: ""
        self.faulted: list[tuple[str, str, str]] = []
        self.url = ""
        self._target = target
        self._runner: web.AppRunner | None = None
        self._listener: socket.socket | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        self._session = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=2**28)
        app.router.add_route("*", "/{path:.*}", self._forward)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        self._listener = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(self._runner, self._listener).start()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    async def stop(self) -> None:
        """Close the socket and all connections."""
        assert self._runner is not None
        assert self._listener is not None
        assert self._session is not None
        await accept_no_more(self._listener)
        await self._runner.cleanup()
        await self._session.close()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        fault = self.choose(request.method, request.path)
        if fault:
            self.faulted.append((fault, request.method, request.path))
        body = await request.read()
        if fault == "503":
            return _error(503, "SlowDown", "Please reduce your request rate.")
        if fault == "skewed":
            return _error(403, "RequestTimeTooSkewed", _SKEWED)
        assert self._session is not None
        url = f"{self._target}{request.raw_path}"
        async with self._session.request(request.method, url, headers=request.headers, data=body) as response:
            content = await response.read()
            headers = {name: value for name, value in response.headers.items() if name not in _OF_THE_HOP}
            if request.method == "HEAD":
                headers["Content-Length"] = response.headers.get("Content-Length", "0")
        assert request.transport is not None
        if fault == "lost":
            request.transport.abort()
        if fault == "cut" and content:
            half = web.StreamResponse(status=response.status, headers=headers | {"Content-Length": str(len(content))})
            await half.prepare(request)
            await half.write(content[: len(content) // 2])
            request.transport.abort()
            return half
        return web.Response(status=response.status, headers=headers, body=content)


_OF_THE_HOP = ("Transfer-Encoding", "Connection", "Content-Length", "Content-Encoding", "Date", "Server")


def _error(status: int, code: str, message: str) -> web.Response:
    text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return web.Response(status=status, text=text, content_type="application/xml")


@contextlib.contextmanager
def failing_s3(target: str) -> Iterator[S3Faults]:
    """The proxy before the server at `target`, for as long as the block runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="s3-faults", daemon=True)
    thread.start()
    faults = S3Faults(target)
    asyncio.run_coroutine_threadsafe(faults.start(), loop).result(10)
    try:
        yield faults
    finally:
        asyncio.run_coroutine_threadsafe(faults.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
