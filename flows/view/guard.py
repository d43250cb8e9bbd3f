"""Who may ask the page: a browser on this machine that was given the token.

Any page in the user's browser can send requests to 127.0.0.1. The token, which is in the URL that the command prints
and then in a cookie, keeps other programs and pages out; the check of the Host header keeps out a page whose name was
made to point at this machine (DNS rebinding); the check of Origin keeps out a form on another page. The answers allow
no script, style, image or frame that is not this server's own.
"""

import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Starlette middleware. `token` is the secret of this process."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token
        self._cookie = f"longmill-view-{secrets.token_hex(4)}"  # another one for each page that is open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it; the headers are on every answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self._refusal(Request(scope))
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        """What a request gets that may not pass, and the first one, whose token becomes a cookie."""
        if _host_name(request.headers) not in _HOSTS:
            return PlainTextResponse("This page is for the machine that it runs on.\n", 403)
        origin = request.headers.get("origin")
        same_origin = origin is None or origin.partition("://")[2] == request.headers["host"]
        if request.method not in ("GET", "HEAD") and (origin is None or not same_origin):
            return PlainTextResponse("A form of another page may not write here.\n", 403)
        given = request.query_params.get("token", "")
        if given and secrets.compare_digest(given.encode(), self._token.encode()):
            response = RedirectResponse(
                str(request.url.replace(scheme="", netloc="").remove_query_params("token")), 303
            )
            response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
            return response
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and secrets.compare_digest(credentials.encode(), self._token.encode()):
            return None  # a program, such as one that reads /metrics
        cookie = request.cookies.get(self._cookie, "")
        if not secrets.compare_digest(cookie.encode(), self._token.encode()):
            return PlainTextResponse("Open the page with the address that `longmill view` has printed.\n", 403)
        return None


def _host_name(headers: Headers) -> str:
    """The name in the Host header, without its port: a tunnel (ssh -L) may change the port."""
    host = headers.get("host", "")
    name, separator, port = host.rpartition(":")
    return name if separator and port.isdigit() else host
