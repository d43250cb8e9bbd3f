"""Entries for the tests of the ledger, numbered."""

import hashlib
from collections.abc import Iterable

from infra.ledger import Entry


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def keys(numbers: Iterable[int]) -> list[str]:
    return [key(number) for number in numbers]


def entry(number: int, reply: str | None = None, created: float = 1.8e9) -> Entry:
    text = reply if reply is not None else f'{{"answer": "{number} 文 🙂"}}'
    return Entry(key(number), "sample", "policy", "main", 200, text, 100 + number, 7, 0.25, created)
