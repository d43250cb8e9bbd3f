"""The stub model server with faults on the way of the reply: never sent, cut in the middle, or sent in drops."""

import asyncio
import threading
from typing import Any

from aiohttp import web

from tests.support.stub_server import StubServer

PIECES = 40
_PIECE_S = 0.1


class FaultyStub(StubServer):
    """`faults` are those of the next requests to come, one each: "stall", "cut", "trickle", or one of `StubOptions`.

    A reply that is cut or trickles counts as answered: a provider bills it.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.faults: list[str] = []
        self.faulted = 0
        self._faults_lock = threading.Lock()

    def _next_fault(self) -> str:
        with self._faults_lock:
            fault = self.faults.pop(0) if self.faults else "ok"
            self.faulted += fault != "ok"
            return fault

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        fault = self._next_fault()
        if fault == "stall":
            self.requests += 1
            await asyncio.sleep(3600)
        if fault not in ("ok", "cut", "trickle"):
            self.options.script.insert(0, fault)
        response = await super()._chat(request)
        if fault not in ("cut", "trickle"):
            return response
        assert isinstance(response, web.Response)
        assert isinstance(response.body, bytes)
        body = response.body
        begun = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
        await begun.prepare(request)
        if fault == "cut":
            await begun.write(body[: len(body) // 2])
            assert request.transport is not None
            request.transport.abort()
            return begun
        size = -(-len(body) // PIECES)
        for start in range(0, len(body), size):
            await begun.write(body[start : start + size])
            await asyncio.sleep(_PIECE_S)
        return begun
