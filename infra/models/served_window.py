"""What a server says of a model: whether its list has it, and `max_model_len`, the window of vLLM and SGLang."""

import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Listing:
    """A model in an endpoint's list of models."""

    listed: bool = True
    max_model_len: int | None = None  # tokens of prompt and answer together; None where the list does not say


def read_models(url: str, api_key: str | None, further: Mapping[str, str] | None = None) -> bytes:
    """The body of an endpoint's list of models; `further` headers. OSError: it does not answer, or refuses."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    headers |= further or {}
    request = urllib.request.Request(f"{url.rstrip('/')}/models", headers=headers)  # noqa: S310 - an endpoint of the recipe
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as reply:  # noqa: S310
        body: bytes = reply.read()
    return body


def listing_in(body: bytes, name: str) -> Listing | None:
    """What a list of models says of the model of this name; None for a body that is no such list."""
    try:
        models = json.loads(body)["data"]
        for model in models:
            if model["id"] == name:
                window = model.get("max_model_len")
                return Listing(True, window if isinstance(window, int) else None)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return Listing(False)


def window_in(body: bytes, name: str) -> int | None:
    """Tokens that the model of this name takes, prompt and answer together; None where the list does not say."""
    listing = listing_in(body, name)
    return listing.max_model_len if listing else None


def served_window(url: str, name: str, api_key: str | None, further: Mapping[str, str] | None = None) -> int | None:
    """As `window_in`, of an endpoint; None where it does not answer: the first call says so."""
    try:
        return window_in(read_models(url, api_key, further), name)
    except (OSError, ValueError):
        return None
