"""What a server says about its rate limits: how long to wait, and how much is left until when. Pure.

    x-ratelimit-{remaining,reset}-requests  and -tokens: OpenAI, Groq, Together; 1s, 6m0s, 120ms
    x-ratelimit-{remaining,reset}           OpenRouter and others; seconds, or a time of the epoch
    ratelimit-{remaining,reset}             the IETF's draft; seconds
    anthropic-ratelimit-requests-...        and -tokens-...; a date
    the error's text                        "try again in 20s", "retry after 26 seconds", "requests per minute"

Retry-After is read in endpoint.py.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

_NAMES: tuple[tuple[Literal["requests", "tokens"], str, str], ...] = (
    ("requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("requests", "x-ratelimit-remaining", "x-ratelimit-reset"),
    ("requests", "ratelimit-remaining", "ratelimit-reset"),
    ("requests", "anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("tokens", "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = r"(\d+(?:\.\d+)?)\s*(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?)(?![a-z])"
_PARTS = re.compile(_PART, re.IGNORECASE)
_DURATION = re.compile(rf"(?:{_PART}\s*)+", re.IGNORECASE)
_AGAIN = re.compile(rf"(?:again|retry|wait)\b[^.\d]{{0,40}}((?:{_PART}\s*)+)", re.IGNORECASE)
_MINUTE = re.compile(r"per[ _-]?min(?:ute)?\b|/\s?min(?:ute)?\b|\b[rt]pm\b|\bminute\b|每分钟", re.IGNORECASE)
_EPOCH_S = 1e9  # a larger number is a time of the epoch in seconds, one a thousand times as large in milliseconds


@dataclass(frozen=True, slots=True)
class Remaining:
    """How much a server takes until `reset_s` seconds from now."""

    what: Literal["requests", "tokens"]
    amount: int
    reset_s: float


def read_remaining(headers: Mapping[str, str], now: float) -> list[Remaining]:
    """What the headers of a response leave. `now` in seconds of the epoch. `headers` look names up in lower case."""
    remaining: list[Remaining] = []
    for what, amount_name, reset_name in _NAMES:
        amount = headers.get(amount_name)
        if amount is None:
            continue
        seconds = _seconds(headers.get(reset_name), now)
        try:
            if seconds is not None:
                remaining.append(Remaining(what, int(float(amount)), seconds))
        except (ValueError, OverflowError):
            continue
    return remaining


def stated_wait(headers: Mapping[str, str], text: str, now: float) -> float | None:
    """Seconds after which a server that refused a call takes some again, without Retry-After; None: it does not say."""
    used_up = [remaining.reset_s for remaining in read_remaining(headers, now) if remaining.amount <= 0]
    if used_up:
        return max(used_up)
    again = _AGAIN.search(text)
    return _duration(again.group(1)) if again else None


def is_of_a_minute(text: str) -> bool:
    """Whether a refusal speaks of a limit on what may come in a minute."""
    return _MINUTE.search(text) is not None


def _seconds(text: str | None, now: float) -> float | None:
    """Seconds from now: "1m30s", "0.5", a time of the epoch, or an ISO date. None when it cannot be read."""
    text = (text or "").strip()
    if _DURATION.fullmatch(text):
        return _duration(text)
    try:
        value = float(text)
    except ValueError:
        pass
    else:
        if value > 1000 * _EPOCH_S:
            value /= 1000
        return max(0.0, value - now if value > _EPOCH_S else value) if value < float("inf") else None
    try:
        return max(0.0, datetime.fromisoformat(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _duration(text: str) -> float:
    seconds = 0.0
    for number, unit in _PARTS.findall(text):
        short = unit.lower()
        seconds += float(number) * _UNITS["ms" if short.startswith(("ms", "milli")) else short[0]]
    return seconds
