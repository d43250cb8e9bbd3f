"""A TCP proxy on loopback, in a thread of the test, that can be cut, or is slow: an outage, or a server far away."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

from flows.bench.stub_server import accept_no_more


class Proxy:
    """Forwards connections to a port of 127.0.0.1 until `cut`, which resets them and refuses new ones.

    What a client sends arrives `delay_s` seconds later.
    """

    def __init__(self, target: int, delay_s: float = 0.0) -> None:
        self.target = target
        self._delay_s = delay_s
        self.port = 0
        self._server: asyncio.Server | None = None
        self._listener: socket.socket | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._server = await asyncio.start_server(self._forward, sock=self._listener)
        self.port = self._listener.getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            assert self._listener is not None
            await accept_no_more(self._listener)
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = {writer}
        self._writers |= writers
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self.target)
            writers.add(target_writer)
            self._writers |= writers
            if not writer.is_closing():  # else it was cut while the target was asked
                await asyncio.gather(_copy(reader, target_writer, self._delay_s), _copy(target_reader, writer))
        finally:
            for each in writers:
                each.close()
            self._writers -= writers


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float = 0.0) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            if delay_s:
                await asyncio.sleep(delay_s)
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.close()


class ProxySwitch:
    """Cuts and mends a running proxy; for the test's threads."""

    def __init__(self, proxy: Proxy, loop: asyncio.AbstractEventLoop) -> None:
        self._proxy = proxy
        self._loop = loop
        self.url = f"http://127.0.0.1:{proxy.port}"

    def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        self._run(self._proxy.stop())

    def mend(self) -> None:
        """Accept connections again, on the same port."""
        self._run(self._proxy.start())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


@contextlib.contextmanager
def running_proxy(target: int, delay_s: float = 0.0) -> Iterator[ProxySwitch]:
    """A proxy to `target` for as long as the block runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxy", daemon=True)
    thread.start()
    proxy = Proxy(target, delay_s)
    asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(10)
    line = ProxySwitch(proxy, loop)
    try:
        yield line
    finally:
        line.cut()
        asyncio.run_coroutine_threadsafe(_wait_for_connections(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _wait_for_connections() -> None:
    """Wait until the connections that were cut have ended."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 5) if others else None
