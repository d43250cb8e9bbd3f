"""The least that a model server can do: the same bytes for every request. For measuring clients.

A bare asyncio protocol without a parser: HTTP/1.1 keep-alive, POST with Content-Length, one request at a time.
"""

import asyncio
import json

from tests.support.stub_replies import MODEL, completion, stub_answer

_servers: list[asyncio.Server] = []  # kept, or they would be collected


async def serve_fixed(port: int) -> int:
    """Listen on 127.0.0.1 until the event loop ends; returns the port."""
    body = json.dumps(completion(MODEL, stub_answer("a fixed reply", 0), 64, b"fixed", 32768)).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    _FixedReply.reply = head.encode() + body
    server = await asyncio.get_running_loop().create_server(_FixedReply, "127.0.0.1", port, backlog=2048)
    _servers.append(server)
    return int(server.sockets[0].getsockname()[1])


class _FixedReply(asyncio.Protocol):
    """HTTP/1.1 keep-alive, POST with Content-Length only; every request gets the same bytes."""

    reply = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.head = b""
        self.body_left = 0

    def data_received(self, data: bytes) -> None:
        if self.body_left == 0:
            self.head += data
            head, end, rest = self.head.partition(b"\r\n\r\n")
            if not end:
                return
            lowered = head.lower()
            at = lowered.find(b"content-length:")
            self.body_left = int(lowered[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            self.head, data = b"", rest
        self.body_left -= len(data)
        if self.body_left <= 0:
            self.body_left = 0
            self.transport.write(self.reply)
