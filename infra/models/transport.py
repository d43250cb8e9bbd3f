"""One endpoint spoken to through the `openai` package, by its cheapest road, and what its answers mean.

`AsyncOpenAI.request` with ready-made bytes as content and a raw response skips the package's encoding and its
pydantic models. What it would repeat for every call is done once: one request that it builds in full gives the
URL and headers (authorization, user agent, ...) of all that are sent, and the HTTP client hands bodies straight to
an aiohttp session of its own, with a read buffer that holds a whole reply. Measured in `flows/benchmarks`.
`judge` turns an answer into one of four verdicts and touches nothing. What it leaves out: retries, which are
the dispatcher's, redirects and streaming.
"""

import io
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import httpx2
from multidict import CIMultiDict
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAioHttpClient
from openai._base_client import get_platform
from openai._models import FinalRequestOptions
from yarl import URL

from infra.models.endpoint import retry_after
from infra.models.protocol import BadReply, Completion, read_completion, refusal_message, refusal_reason

_READ_BUFFER = 2**20  # bytes; aiohttp's default of 64 KB pauses and resumes the socket on larger replies
_KEEP_ALIVE_S = 4.0  # below the 5 s after which uvicorn (vLLM) drops an idle connection
_LARGE_BODY = 2**20  # bytes; aiohttp warns about larger ones that do not come as a file object
_CONNECT_S = 10.0
_OVERLOADED = frozenset({429, 503, 529})
_PASSING = frozenset({408, 409, 425})
_NOT_FORWARDED = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding"})
_ABOUT_PACKAGE = "x-stainless-"  # headers that tell the package's versions, time limit and retries, not ours
_NOTHING = httpx2.ByteStream(b"")


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response: `headers` look names up in any case."""

    status: int
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Final:
    """A paid reply, or a refusal that belongs to the request; to be recorded. `completion` is None for a refusal."""

    status: int
    raw: str
    completion: Completion | None


@dataclass(frozen=True, slots=True)
class Refused:
    """A 4xx that may be the server's configuration: final for this run, but not recorded."""

    detail: str


@dataclass(frozen=True, slots=True)
class Retry:
    """A passing fault: worth another try. `busy` asks for a lower limit, `wait` is the server's wish in seconds."""

    reason: str
    detail: str
    busy: bool = False
    wait: float | None = None


@dataclass(frozen=True, slots=True)
class Fatal:
    """No call can succeed until somebody acts. `one_model` when that holds for the request's model alone."""

    cause: str
    remedy: str
    one_model: bool = False


ResponseClass = Final | Refused | Retry | Fatal


class _Socket(DefaultAioHttpClient):
    """The HTTP client under `AsyncOpenAI`: sends every request to one URL through one aiohttp session."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self._headers_sent = CIMultiDict[str]()
        self._target = URL()
        self._proxy: str | None = None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),  # the dispatcher sets the limit
            timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(_CONNECT_S, timeout_s)),
            read_bufsize=_READ_BUFFER,
        )

    def aim(self, model: httpx2.Request) -> None:
        """Send to the URL and with the headers of `model` from now on."""
        names = [name for name in model.headers if name not in _NOT_FORWARDED and not name.startswith(_ABOUT_PACKAGE)]
        self._headers_sent = CIMultiDict((name, model.headers[name]) for name in names)
        self._target = URL(str(model.url), encoded=True)
        self._proxy = proxy_for(str(model.url))

    async def send(self, request: httpx2.Request, **_: Any) -> httpx2.Response:
        """The package is shown the status alone; the rest goes past it, as the extension "answer"."""
        content = request.read()
        async with self._session.post(
            self._target,
            data=content if len(content) <= _LARGE_BODY else io.BytesIO(content),
            headers=self._headers_sent,
            allow_redirects=False,
            proxy=self._proxy,
        ) as response:
            answer = HttpResponse(response.status, await response.read(), response.headers)
        return httpx2.Response(answer.status, stream=_NOTHING, request=request, extensions={"answer": answer})

    async def aclose(self) -> None:
        await self._session.close()
        await super().aclose()


class _Client(AsyncOpenAI):
    """`AsyncOpenAI` that builds one request in full, and gives those that are sent a new body only."""

    def __init__(self, url: str, api_key: str, socket: _Socket) -> None:
        super().__init__(base_url=url, api_key=api_key, max_retries=0, http_client=socket)
        self._platform = get_platform()  # else every call looks it up in a thread until one has found it
        self._options = FinalRequestOptions.construct(
            method="post",
            url="/chat/completions",
            headers={"Content-Type": "application/json"},
            content=b"",
        )
        self._model = super()._build_request(self._options)
        self._socket = socket
        socket.aim(self._model)

    def send_body(self, body: bytes) -> Awaitable[httpx2.Response]:
        """Post a chat completion's body."""
        return self.request(httpx2.Response, self._options.model_copy(update={"content": body}))

    def _build_request(self, options: FinalRequestOptions, *, retries_taken: int = 0) -> httpx2.Request:
        assert isinstance(options.content, bytes)
        return httpx2.Request("POST", self._model.url, stream=httpx2.ByteStream(options.content))

    async def _send_request(self, request: httpx2.Request, **_: Any) -> httpx2.Response:
        """Without the package's several layers for other kinds of accounts, which stay in memory for a whole call."""
        return await self._socket.send(request)


class Transport:
    """Calls to one endpoint. Made and used inside one event loop."""

    def __init__(self, url: str, api_key: str | None, timeout_s: float) -> None:
        self._client = _Client(url, api_key or "none", _Socket(timeout_s))

    async def post(self, body: bytes) -> HttpResponse:
        """Send a chat completion's body. Raises aiohttp.ClientError or TimeoutError when no response came."""
        try:
            response = await self._client.send_body(body)
        except APIStatusError as error:
            response = error.response
        except APIConnectionError as error:  # the package wraps bare TLS faults; all else comes from aiohttp as it is
            raise aiohttp.ClientConnectionError(str(error.__cause__)) from error
        answer: HttpResponse = response.extensions["answer"]
        return answer

    async def close(self) -> None:
        await self._client.close()


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for a URL; none for this machine's own servers."""
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def could_not_connect(error: Exception) -> bool:
    """Whether the endpoint was not there at all: refused, unknown, without a valid certificate, or silent."""
    return isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)


def retry_after_error(error: Exception) -> Retry:
    """What an exception of `Wire.post` means for the call."""
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return Retry("timeout" if isinstance(error, TimeoutError) else "connection", said)


def classify_response(answer: HttpResponse) -> ResponseClass:
    """What an answer means for the call."""
    if answer.status == 200:
        return _reply(answer)
    text = answer.body.decode("utf-8", "replace")
    said = f"status {answer.status}: {refusal_message(text)}"
    if answer.status in _OVERLOADED:
        if "insufficient_quota" in text:
            return Fatal(said, "top the account up, or use another key or endpoint")
        return Retry("busy", said, busy=True, wait=retry_after(answer.headers))
    if answer.status >= 500 or answer.status in _PASSING:
        return Retry("server_error", said, wait=retry_after(answer.headers))
    reason = refusal_reason(text)
    if reason == "content_filter" or (reason == "prompt_too_long" and answer.status in (400, 413, 422)):
        return Final(answer.status, text, None)
    return _misconfigured(answer.status, said) or Refused(said)


def _reply(answer: HttpResponse) -> Final | Retry:
    try:
        return Final(200, answer.body.decode("utf-8"), read_completion(answer.body))
    except (BadReply, UnicodeDecodeError) as error:
        return Retry("bad_reply", str(error)[:500])


def _misconfigured(status: int, said: str) -> Fatal | None:
    if status in (401, 403):
        return Fatal(said, "set {api_key_env} to a key that may use this model")
    if status == 404:
        return Fatal(said, "check the model's name in the recipe, and that the endpoint ends in /v1", one_model=True)
    if status == 405 or 300 <= status < 400:
        return Fatal(said, "check that the endpoint is the base URL of an OpenAI-compatible server, ending in /v1")
    return None
