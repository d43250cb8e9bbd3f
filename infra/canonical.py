"""Canonical JSON, its hashes, and random numbers from them: equal on every machine, and in every run."""

import hashlib
import json
import random
from typing import Any


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces, as UTF-8. Raises ValueError for NaN and infinities."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def fingerprint(value: Any) -> str:
    """sha256 of the canonical bytes, 64 hex digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def text_id(text: str) -> str:
    """sha256 of a text's UTF-8 bytes, 64 hex digits: the id of a context."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def seeded_random(*parts: str | int) -> random.Random:
    """A random generator that depends on `parts` alone: the seed of the plan, the id of the example, the purpose."""
    return random.Random(fingerprint(list(parts)))


def seed_number(*parts: str | int) -> int:
    """A seed for a model call, in [0, 2**31), that depends on `parts` alone."""
    return int(fingerprint(list(parts))[:8], 16) & 0x7FFFFFFF
