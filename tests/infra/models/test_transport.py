"""What is sent to an endpoint, and which responses and errors come back."""

import asyncio
import json
import re
import ssl

import aiohttp
import pytest

from infra.models.sending.transport import HttpResponse, Transport

_BODY = json.dumps({"messages": [{"role": "user", "content": "Why?"}], "model": "stub"}).encode()


class _Server:
    """Sends the same bytes for every request, and records the requests."""

    def __init__(self, reply: bytes) -> None:
        self.reply = reply
        self.heads: list[dict[str, str]] = []
        self.bodies: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
        self.heads.append({name.lower(): value for name, value in (line.split(": ", 1) for line in head)})
        self.bodies.append(await reader.readexactly(int(self.heads[-1]["content-length"])))
        writer.write(self.reply)
        await writer.drain()
        writer.close()


def reply(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def posted(server: _Server, times: int = 1) -> list[HttpResponse]:
    """The responses to calls that a new transport sends at the same time."""

    async def run() -> list[HttpResponse]:
        async with await asyncio.start_server(server, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            transport = Transport(f"http://127.0.0.1:{port}/v1", "secret", 5.0)
            try:
                return await asyncio.gather(*(transport.post(_BODY) for _ in range(times)))
            finally:
                await transport.close()

    return asyncio.run(run())


def test_a_call_carries_the_key_and_the_headers_of_the_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team: red")
    server = _Server(reply("200 OK", b"{}"))
    posted(server)
    (head,) = server.heads
    assert head["authorization"] == "Bearer secret"
    assert head["content-type"] == "application/json"
    assert head["x-team"] == "red"
    assert not [name for name in head if name.startswith("x-stainless-")]


def test_all_calls_that_a_new_transport_sends_at_the_same_time_arrive():
    server = _Server(reply("200 OK", b"{}"))
    responses = posted(server, 20)
    assert [(response.status, response.body) for response in responses] == [(200, b"{}")] * 20
    assert server.bodies == [_BODY] * 20


def test_an_error_status_is_a_response_like_any_other():
    (response,) = posted(_Server(reply("429 Too Many Requests", b"slow down", "Retry-After: 7")))
    assert (response.status, response.body, response.headers.get("retry-after")) == (429, b"slow down", "7")


def test_a_redirect_is_not_followed():
    server = _Server(reply("307 Temporary Redirect", b"", "Location: /elsewhere"))
    (response,) = posted(server)
    assert response.status == 307
    assert len(server.heads) == 1


def test_a_body_that_cannot_be_decompressed_is_a_fault_of_the_connection():
    with pytest.raises(aiohttp.ClientError):
        posted(_Server(reply("200 OK", b"this is no gzip", "Content-Encoding: gzip")))


def test_a_bare_tls_fault_is_a_fault_of_the_connection(monkeypatch):
    async def broken(*_: object, **__: object) -> None:
        raise ssl.SSLError("bad record mac")

    monkeypatch.setattr(aiohttp.ClientSession, "_request", broken)
    with pytest.raises(aiohttp.ClientConnectionError, match="bad record mac"):
        posted(_Server(b""))


def test_a_call_names_longmill_as_its_agent_and_the_account_of_the_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-2")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "authorization: Basic abc\nno header")
    server = _Server(reply("200 OK", b"{}"))
    posted(server)
    (head,) = server.heads
    assert re.fullmatch(r"longmill/\d\S*", head["user-agent"])
    assert (head["openai-organization"], head["openai-project"]) == ("org-1", "proj-2")
    assert head["authorization"] == "Basic abc"
