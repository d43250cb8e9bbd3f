"""What a sequence classifier reads: texts as token ids, of any length, with special tokens in the texts broken up.

So no document can end its part of an input, and no answer begin another one. Nothing is cut.
"""

import re
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

from infra.models.tokens import Tokenizer

_one_encodes = threading.Lock()  # two threads at once cannot tell a tokenizer whether to cut


class TokenRow(NamedTuple):
    """An input as the model reads it; `types` tells the two texts of a pair apart, for models that want to know."""

    ids: tuple[int, ...]
    types: tuple[int, ...] = ()


class TextEncoder:
    """Encodes the texts that one classifier reads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = _special_tokens(tokenizer)

    def row(self, *texts: str) -> TokenRow:
        """One text, or a pair of texts, with the special tokens that the tokenizer sets around them."""
        with _one_encodes:
            encoded = self._tokenizer(*texts, add_special_tokens=True, truncation=False)
        return TokenRow(tuple(encoded["input_ids"]), tuple(encoded.get("token_type_ids", ())))

    def conversations(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of conversations that a chat template has written, special tokens included."""
        if not texts:
            return []
        with _one_encodes:
            return list(self._tokenizer(list(texts), add_special_tokens=False, truncation=False)["input_ids"])

    def plain(self, text: str) -> str:
        """The text with every special token of the tokenizer broken up: it stays readable."""
        while self._special and (broken := self._special.sub(_broken_up, text)) != text:
            text = broken
        return text


def common_prefix(rows: Sequence[list[int]] | Sequence[tuple[int, ...]]) -> int:
    """How many tokens all rows begin with; every row has one more at least, and 0 where a row has one alone.

    The rows differ from one another.
    """
    length = 0
    limit = min(map(len, rows)) - 1
    first, last = min(rows), max(rows)  # what these share, all between them begin with
    while length < limit and first[length] == last[length]:
        length += 1
    return length


def _special_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    tokens = set()
    for token in tokenizer.added_tokens_decoder.values():
        text = str(token)
        if token.special and len(text) > 1 and not re.search(r"\s", text):
            tokens.add(text)
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def _broken_up(match: re.Match[str]) -> str:
    return f"{match.group()[0]} {match.group()[1:]}"
