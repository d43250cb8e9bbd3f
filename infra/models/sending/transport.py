"""HTTP calls to one endpoint of the OpenAI protocol, or of vLLM's for scores, and what a response means for its call.

`Transport` posts ready-made bodies through an aiohttp session of its own. `classify_response` reads a response as
a reply, a refusal (see refusals.py) or a failure that passes, and touches nothing. What it leaves out: attempts and
back-off, which are the scheduler's; redirects and streaming.
"""

import importlib.metadata
import io
import os
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from infra.models.completions import BadReply, Completion, ErrorInReply
from infra.models.protocol import CHAT, read_reply
from infra.models.refusals.rules import Refusal, classify_refusal, without_secrets
from infra.models.sending.endpoint import retry_after

_READ_BUFFER = 2**20  # bytes; aiohttp's default of 64 KB pauses and resumes the socket on larger replies
_KEEP_ALIVE_S = 4.0  # below the 5 s after which uvicorn (vLLM) drops an idle connection
_LARGE_BODY = 2**20  # bytes; aiohttp warns about larger ones that do not come as a file object
_CONNECT_S = 10.0
_OVERLOADED = frozenset({429, 498, 503, 529})
_DETAIL_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response: `headers` look names up in any case."""

    status: int
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Recordable:
    """A paid reply, which the ledger records."""

    raw: str
    completion: Completion


@dataclass(frozen=True, slots=True)
class Refused:
    """The server refuses: what it is about, and the error as it came."""

    status: int
    raw: str
    refusal: Refusal

    @property
    def detail(self) -> str:
        """The status and the server's words."""
        return f"status {self.status}: {self.refusal.words}"


@dataclass(frozen=True, slots=True)
class NoRoute:
    """The server has no such route for its model: it ends the call, and is not recorded."""

    detail: str


@dataclass(frozen=True, slots=True)
class TemporaryFailure:
    """A failure that another attempt may not meet."""

    reason: str  # as in protocol.Failure
    detail: str
    busy: bool = False  # the endpoint asks for fewer calls at a time
    wait_s: float | None = None  # seconds that the endpoint asks to wait


ResponseClass = Recordable | Refused | NoRoute | TemporaryFailure


class Transport:
    """Calls to one endpoint. Made and used inside one event loop."""

    def __init__(
        self, url: str, api_key: str | None, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> None:
        """`url` is the base URL ending in /v1; `timeout_s` is the limit of one attempt, connecting included.

        `headers` come on top of the usual ones, and in place of those of the same name (spelled Like-This).
        """
        self._url = url
        self._proxy = proxy_for(url)
        self._session = aiohttp.ClientSession(
            headers=_headers(api_key) | dict(headers or {}),
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),  # the scheduler sets the limit
            timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(_CONNECT_S, timeout_s)),
            read_bufsize=_READ_BUFFER,
        )

    async def post(self, body: bytes, route: str = CHAT) -> HttpResponse:
        """Send a request's body. Raises aiohttp.ClientError or TimeoutError when no response came."""
        data = body if len(body) <= _LARGE_BODY else io.BytesIO(body)
        base = self._url if route == CHAT else self._url.removesuffix("/v1")  # vLLM's routes for scores lie beside /v1
        url = f"{base}/{route}"
        try:
            async with self._session.post(url, data=data, allow_redirects=False, proxy=self._proxy) as response:
                return HttpResponse(response.status, await response.read(), response.headers)
        except (aiohttp.ClientError, TimeoutError):
            raise
        except OSError as error:  # aiohttp lets some faults of TLS through as they are
            raise aiohttp.ClientConnectionError(str(error)) from error

    async def close(self) -> None:
        await self._session.close()


def _headers(api_key: str | None) -> dict[str, str]:
    """The headers of every call. The variables are those that OpenAI's own clients read."""
    headers = {
        "Accept": "application/json",
        "Authorization": f"Bearer {api_key or 'none'}",
        "Content-Type": "application/json",
        "User-Agent": f"longmill/{importlib.metadata.version('longmill')}",
    }
    if organization := os.environ.get("OPENAI_ORG_ID"):
        headers["Openai-Organization"] = organization
    if project := os.environ.get("OPENAI_PROJECT_ID"):
        headers["Openai-Project"] = project
    for line in os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().title()] = value.strip()  # spelled as above, so that it replaces the one above
    return headers


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for a URL; none for this machine's own servers."""
    parts = urllib.parse.urlsplit(url)
    if is_here(url) or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def is_here(url: str) -> bool:
    """Whether a URL is one of this machine's own servers."""
    host = urllib.parse.urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def could_not_connect(error: Exception) -> bool:
    """Whether no connection was made: refused, unknown host, no valid certificate, or no response in time."""
    return isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)


def classify_error(error: Exception) -> TemporaryFailure:
    """What an exception of `Transport.post` means for the call."""
    detail = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return TemporaryFailure("timeout" if isinstance(error, TimeoutError) else "connection", detail)


def classify_response(response: HttpResponse, route: str = CHAT) -> ResponseClass:
    """What a response means for the call."""
    if response.status == 200:
        return _classify_reply(response, route)
    return _classify_refusal(response.status, response.body.decode("utf-8", "replace"), response.headers, route)


def _classify_reply(response: HttpResponse, route: str) -> ResponseClass:
    try:
        raw = response.body.decode("utf-8")
        completion = read_reply(raw, route)
    except ErrorInReply as error:
        return _classify_refusal(error.status, error.body, response.headers, route)
    except (BadReply, UnicodeDecodeError) as error:
        return TemporaryFailure("bad_reply", without_secrets(str(error)[:_DETAIL_CHARACTERS]))
    if completion.error:  # the answer beside it was cut short
        return _classify_refusal(502, completion.error, response.headers, route)
    return Recordable(raw, completion)


def _classify_refusal(status: int, text: str, headers: Mapping[str, str], route: str) -> ResponseClass:
    refused = Refused(status, text, classify_refusal(status, text))
    if route != CHAT and (status == 501 or (status == 404 and "model" not in text)):
        return NoRoute(refused.detail)
    if refused.refusal.subject != "passing":
        return refused
    busy = status in _OVERLOADED
    reason = "busy" if busy else "server_error"
    return TemporaryFailure(reason, refused.detail, busy=busy, wait_s=retry_after(headers))
