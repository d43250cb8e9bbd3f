"""HTTP calls to one endpoint of the OpenAI protocol, or of vLLM's for scores, and what a response means for its call.

`Transport` posts ready-made bodies through an aiohttp session of its own. `classify_response` reads a response as
one of four classes and touches nothing. What it leaves out: attempts and back-off, which are the scheduler's;
redirects and streaming.
"""

import importlib.metadata
import io
import os
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from infra.models.endpoint import retry_after
from infra.models.protocol import CHAT, BadReply, Completion, read_reply, refusal_message, refusal_reason

_READ_BUFFER = 2**20  # bytes; aiohttp's default of 64 KB pauses and resumes the socket on larger replies
_KEEP_ALIVE_S = 4.0  # below the 5 s after which uvicorn (vLLM) drops an idle connection
_LARGE_BODY = 2**20  # bytes; aiohttp warns about larger ones that do not come as a file object
_CONNECT_S = 10.0
_OVERLOADED = frozenset({429, 503, 529})
_TEMPORARY = frozenset({408, 409, 425})


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response: `headers` look names up in any case."""

    status: int
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Recordable:
    """A paid reply, or a refusal of the request as it stands: the ledger records it.

    `completion` is None for a refusal.
    """

    status: int
    raw: str
    completion: Completion | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A 4xx that may come from the server's configuration: it ends the call, and is not recorded."""

    detail: str


@dataclass(frozen=True, slots=True)
class TemporaryFailure:
    """A failure that another attempt may not meet."""

    reason: str  # as in protocol.Failure
    detail: str
    busy: bool = False  # the endpoint asks for fewer calls at a time
    wait_s: float | None = None  # seconds that the endpoint asks to wait


@dataclass(frozen=True, slots=True)
class EndpointFailure:
    """No call can succeed until a person acts on `remedy`."""

    cause: str
    remedy: str
    one_model: bool = False  # this holds for the request's model alone


ResponseClass = Recordable | Refusal | TemporaryFailure | EndpointFailure


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
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme)


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
    text = response.body.decode("utf-8", "replace")
    detail = f"status {response.status}: {refusal_message(text)}"
    if route != CHAT and (response.status == 501 or (response.status == 404 and "model" not in text)):
        return Refusal(detail)  # the server has no such route for its model
    if response.status in _OVERLOADED:
        if "insufficient_quota" in text:
            return EndpointFailure(detail, "top the account up, or use another key or endpoint")
        return TemporaryFailure("busy", detail, busy=True, wait_s=retry_after(response.headers))
    if response.status >= 500 or response.status in _TEMPORARY:
        return TemporaryFailure("server_error", detail, wait_s=retry_after(response.headers))
    reason = refusal_reason(text)
    if reason == "content_filter" or (reason == "prompt_too_long" and response.status in (400, 413, 422)):
        return Recordable(response.status, text, None)
    return _endpoint_failure(response.status, detail) or Refusal(detail)


def _classify_reply(response: HttpResponse, route: str) -> Recordable | TemporaryFailure:
    try:
        return Recordable(200, response.body.decode("utf-8"), read_reply(response.body, route))
    except (BadReply, UnicodeDecodeError) as error:
        return TemporaryFailure("bad_reply", str(error)[:500])


def _endpoint_failure(status: int, detail: str) -> EndpointFailure | None:
    if status in (401, 403):
        return EndpointFailure(detail, "set {api_key_env} to a key that may use this model")
    if status == 404:
        remedy = "check the model's name in the recipe, and that the endpoint ends in /v1"
        return EndpointFailure(detail, remedy, one_model=True)
    if status == 405 or 300 <= status < 400:
        remedy = "check that the endpoint is the base URL of an OpenAI-compatible server, ending in /v1"
        return EndpointFailure(detail, remedy)
    return None
