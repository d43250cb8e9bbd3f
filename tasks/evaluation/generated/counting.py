"""Exact token counts of long texts that change in a few places, without counting the whole text each time.

A text is counted once. When a part is replaced, what stands within `WINDOW` characters of the part is counted before
and after, and the difference is added: how a tokenizer splits a text depends on a few words around each place. A
tokenizer for which that is not true counts whole texts (`whole`): slow, and always exact.

A run makes the same texts again: before a training to see that nothing of them is trained on, and after it to ask about
them. Counting is nine tenths of the work, and the texts are long. So the numbers are remembered, and the texts are not.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.models.tokens import NO_ARGUMENTS, Conversation, Tokenizer, count_tokens, prompt_tokens

WINDOW = 300  # characters
_EDGE = 2 * WINDOW  # of each end of a text, with which the prompt around it is counted

_REMEMBERED = 200_000  # texts of a tokenizer: 30 MB

Render = Callable[[str], Conversation]  # the messages of a prompt around a context


@dataclass(frozen=True, slots=True)
class CountedText:
    """A text, and its tokens without special ones."""

    text: str
    tokens: int


class TextCounter:
    """Counts texts and their changes with one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, arguments: Mapping[str, Any] = NO_ARGUMENTS, whole: bool = False) -> None:
        """`arguments` are what requests give the chat template; with `whole` nothing is counted in parts."""
        self.tokenizer = tokenizer
        self._remembered = _remembered(tokenizer)
        self.whole = whole
        self._arguments = arguments
        self._pieces: dict[str, int] = {}  # tokens of short texts that come again and again

    def count(self, text: str) -> CountedText:
        """A text, counted in whole."""
        return CountedText(text, self._counts([text])[0])

    def pieces(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, every distinct one counted once."""
        new = [text for text in dict.fromkeys(texts) if text not in self._pieces]
        self._pieces.update(zip(new, self._counts(new), strict=True))
        return [self._pieces[text] for text in texts]

    def replaced(self, counted: CountedText, start: int, end: int, part: str) -> CountedText:
        """The text with [start, end) replaced."""
        text = counted.text[:start] + part + counted.text[end:]
        if self.whole:
            return self.count(text)
        left = counted.text[max(0, start - WINDOW) : start]
        right = counted.text[end : end + WINDOW]
        before, after = self._counts([left + counted.text[start:end] + right, left + part + right])
        return CountedText(text, counted.tokens + after - before)

    def prompt(self, counted: CountedText, render: Render) -> int:
        """Tokens of the whole prompt around a text, chat template included."""
        text = counted.text
        if self.whole or len(text) <= 4 * _EDGE:
            return self.whole_prompt(text, render)
        edges = text[:_EDGE] + text[-_EDGE:]
        return self.whole_prompt(edges, render) - self.count(edges).tokens + counted.tokens

    def whole_prompt(self, text: str, render: Render) -> int:
        """As `prompt`, all of it counted."""
        return prompt_tokens(self.tokenizer, [render(text)], (), self._arguments)[0]

    def _counts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text; those that are remembered are not counted again."""
        digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        new = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in self._remembered}
        counts = dict(zip(new, count_tokens(self.tokenizer, list(new.values())), strict=True))
        if len(self._remembered) + len(counts) <= _REMEMBERED:
            self._remembered.update(counts)
        return [counts[digest] if digest in counts else self._remembered[digest] for digest in digests]


def _remembered(tokenizer: Tokenizer) -> dict[bytes, int]:
    """Tokens by the sha256 of a text, as this process has counted them by equal tokenizers."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # written in Python: what it depends on cannot be told
        return {}
    return _of_tokenizer(hashlib.sha256(backend.to_str().encode()).digest())


@functools.cache
def _of_tokenizer(digest: bytes) -> dict[bytes, int]:
    return {}
