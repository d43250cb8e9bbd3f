"""The window that a server of a model says it has: `max_model_len` of vLLM's and SGLang's list of models."""

import json
import urllib.request
from collections.abc import Mapping

_TIMEOUT_S = 10.0


def read_models(url: str, api_key: str | None, further: Mapping[str, str] | None = None) -> bytes:
    """The body of an endpoint's list of models; `further` headers. OSError: it does not answer, or refuses."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    headers |= further or {}
    request = urllib.request.Request(f"{url.rstrip('/')}/models", headers=headers)  # noqa: S310 - an endpoint of the recipe
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as reply:  # noqa: S310
        body: bytes = reply.read()
    return body


def window_in(body: bytes, name: str) -> int | None:
    """Tokens that the model of this name takes, prompt and answer together; None where the list does not say."""
    try:
        models = json.loads(body)["data"]
        for model in models:
            if model["id"] == name and isinstance(model.get("max_model_len"), int):
                return int(model["max_model_len"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return None


def served_window(url: str, name: str, api_key: str | None, further: Mapping[str, str] | None = None) -> int | None:
    """As `window_in`, of an endpoint; None where it does not answer: the first call says so."""
    try:
        return window_in(read_models(url, api_key, further), name)
    except (OSError, ValueError):
        return None
