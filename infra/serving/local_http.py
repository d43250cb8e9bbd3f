"""Requests to a server on this machine: never through a proxy that the environment names."""

import http.client
import json
import urllib.request
from typing import Any

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(url: str, timeout_s: float, api_key: str | None = None) -> bytes:
    """The body at `url`. Raises OSError when there is no response in time, or one that is no success."""
    return _send(urllib.request.Request(url, headers=_key(api_key)), timeout_s)  # noqa: S310 - an endpoint of a recipe


def post(url: str, body: dict[str, Any], timeout_s: float, api_key: str | None = None) -> bytes:
    """The response to `body`, sent as JSON. Raises as `get` does; urllib.error.HTTPError has the server's message."""
    headers = {"Content-Type": "application/json"} | _key(api_key)
    return _send(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout_s)  # noqa: S310 - as above


def _key(api_key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _send(request: urllib.request.Request, timeout_s: float) -> bytes:
    try:
        with _OPENER.open(request, timeout=timeout_s) as response:
            body: bytes = response.read()
    except http.client.HTTPException as error:  # a server that ends in the middle of its response
        raise OSError(f"{type(error).__name__}: {error}") from error
    return body
