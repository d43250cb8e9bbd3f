"""A model server that does as little as possible: the same bytes for every request. For measuring clients.

A bare asyncio protocol without a parser: HTTP/1.1 keep-alive, POST with Content-Length, one request at a time.
"""

import asyncio
import json

from tests.support.stub_replies import MODEL, completion, stub_answer


async def serve_fixed(port: int) -> asyncio.Server:
    """Listen on 127.0.0.1, until the server is closed or collected. Port 0 takes a free one."""
    body = json.dumps(completion(MODEL, stub_answer("a fixed reply", 0), 64, b"fixed", 32768)).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    _FixedReply.reply = head.encode() + body
    return await asyncio.get_running_loop().create_server(_FixedReply, "127.0.0.1", port, backlog=2048)


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
            _, _, after_name = head.lower().partition(b"content-length:")
            self.body_left = int(after_name.split(b"\r\n", 1)[0] or 0)
            self.head, data = b"", rest
        self.body_left -= len(data)
        if self.body_left <= 0:
            self.body_left = 0
            self.transport.write(self.reply)
