"""One way to turn a value into bytes, so that equal values have equal hashes on every machine and run."""

import hashlib
import json
import random
from typing import Any


def canonical(value: Any) -> bytes:
    """JSON with sorted keys, no spaces and UTF-8 text. NaN and infinities are refused (ValueError)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def fingerprint(value: Any) -> str:
    """sha256 of the canonical bytes, 64 hex digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def text_id(text: str) -> str:
    """sha256 of a text's UTF-8 bytes, 64 hex digits: the id of a context."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def seeded(*parts: str | int) -> random.Random:
    """A random generator that depends on nothing but `parts`: plan seed, example id, purpose."""
    return random.Random(fingerprint(list(parts)))


def seed_number(*parts: str | int) -> int:
    """A seed in [0, 2**31) for a model call, from `parts` alone."""
    return int(fingerprint(list(parts))[:8], 16) & 0x7FFFFFFF
