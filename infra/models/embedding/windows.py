"""Texts against the window of an embedding model: how long they are, and the windows in which a long one is embedded.

Windows follow one another without gap or overlap, are of about equal size, and end between words where they can. Each
is measured again as it will be embedded, with the prompt before it and the special tokens around it, since a piece of a
text may have other tokens than the text. Without a tokenizer a token is taken to be two bytes of UTF-8: English has
about twice as many bytes to a token, Chinese about as many, so that a window is rather too small than too large.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from infra.errors import RecipeError
from infra.models.tokens import Tokenizer

BYTES = 2  # a token, where the tokenizer is not known
_SPECIAL = 4  # tokens around a text, where the tokenizer is not known
_LEAST_ROOM = 8  # tokens of a text in a window
_BATCH = 256  # texts measured at once: a token with its place takes some hundred bytes

Window = tuple[str, int]  # a part of a text, and its tokens


@dataclass(frozen=True, slots=True)
class TextSize:
    """A text as the model sees it. Tokens are those of the text alone, without prompt and special tokens."""

    tokens: int
    unknown: int  # tokens that stand for something which the tokenizer does not know
    windows: int
    cut: bool  # its end is lost

    def to_json(self) -> dict[str, int]:
        """JSON-ready values; `cut` is 0 or 1."""
        return {"tokens": self.tokens, "unknown": self.unknown, "windows": self.windows, "cut": int(self.cut)}


class TokenMeter:
    """Where the tokens of a text stand, by a fast tokenizer, or by bytes without one."""

    def __init__(self, tokenizer: Tokenizer | None = None) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._backend: Any = None
        self._unknown = getattr(tokenizer, "unk_token_id", None)
        if backend is not None:
            # A copy: the model cuts and pads with its own.
            self._backend = type(backend).from_str(backend.to_str())
            self._backend.no_truncation()
            self._backend.no_padding()

    @property
    def exact(self) -> bool:
        """True when tokens are the tokenizer's own."""
        return self._backend is not None

    def starts(self, texts: Sequence[str]) -> list[tuple[NDArray[np.int64], int]]:
        """Of each text the characters at which its tokens begin, ascending, and how many tokens are unknown."""
        if self._backend is None:
            return [(_starts_by_bytes(text), 0) for text in texts]
        measured = []
        for encoding in self._backend.encode_batch(list(texts), add_special_tokens=False):
            starts = np.array([start for start, _ in encoding.offsets], np.int64)
            measured.append((np.maximum.accumulate(starts) if len(starts) else starts, self._unknowns(encoding.ids)))
        return measured

    def _unknowns(self, ids: Sequence[int]) -> int:
        return 0 if self._unknown is None else list(ids).count(self._unknown)

    def whole_length(self, text: str) -> int:
        """Tokens of a text with the special tokens around it."""
        if self._backend is None:
            return -(-len(text.encode("utf-8", "replace")) // BYTES) + _SPECIAL
        return len(self._backend.encode(text))


class TextWindows:
    """The windows of texts. `window` is in tokens, prompt and special tokens included; None: no text is too long."""

    def __init__(
        self,
        meter: TokenMeter,
        window: int | None,
        long_texts: Literal["windows", "refuse", "cut"],
        prompt: str | None = None,
    ) -> None:
        self._meter = meter
        self._window = window
        self._long_texts = long_texts
        self._prompt = prompt or ""
        around = meter.whole_length(self._prompt)
        if window is not None and window - around < _LEAST_ROOM:
            raise RecipeError(
                f"embedding.prompt: with it, a window of {window} tokens has too little room for a text; give a "
                "shorter prompt, or raise embedding.max_tokens"
            )
        self._room = None if window is None else window - around

    def sizes(self, texts: Sequence[str]) -> list[TextSize] | None:
        """The size of each text; None when its tokens are not known."""
        if not self._meter.exact:
            return None
        sizes = []
        for text, (starts, unknown) in self._measured(texts):
            too_long = self._room is not None and len(starts) > self._room
            cut = too_long and self._long_texts == "cut"
            windows = len(self._cut_up(text, starts)) if too_long and not cut else 1
            sizes.append(TextSize(len(starts), unknown, windows, cut))
        return sizes

    def split(self, texts: Sequence[str]) -> list[list[Window]]:
        """The windows of each text; a text that fits, or is cut by the model itself, is one of its own.

        Raises RecipeError for a text that is too long where the recipe refuses it.
        """
        if self._room is None or self._long_texts == "cut":
            return [[(text, 1)] for text in texts]
        windows = []
        for text, (starts, _) in self._measured(texts):
            if self._long_texts == "refuse" and len(starts) > self._room:
                raise RecipeError(
                    f"embedding.long_texts is refuse, and a text of {len(starts):,} tokens does not fit the window of "
                    f"{self._window} tokens: {text[:60]!r}… Set it to windows, or take an embedding.model with a "
                    "longer window"
                )
            windows.append(self._cut_up(text, starts))
        return windows

    def _measured(self, texts: Sequence[str]) -> list[tuple[str, tuple[NDArray[np.int64], int]]]:
        measured: list[tuple[str, tuple[NDArray[np.int64], int]]] = []
        for start in range(0, len(texts), _BATCH):
            batch = texts[start : start + _BATCH]
            measured += zip(batch, self._meter.starts(batch), strict=True)
        return measured

    def _cut_up(self, text: str, starts: NDArray[np.int64]) -> list[Window]:
        """A text in windows that fit. A part without a visible character is left out."""
        assert self._room is not None
        if len(starts) <= self._room:
            return [(text, len(starts))]
        windows: list[Window] = []
        borders = [0, *_borders(text, starts, self._room), len(text)]
        for begin, end in itertools.pairwise(borders):
            windows += self._fitting(text[begin:end])
        return windows

    def _fitting(self, part: str) -> list[Window]:
        """A part of a text, halved until it fits: alone it may have more tokens than it had inside the text."""
        if not part.strip():
            return []
        assert self._window is not None
        if self._meter.whole_length(self._prompt + part) > self._window and len(part) > 1:
            half = len(part) // 2
            return self._fitting(part[:half]) + self._fitting(part[half:])
        ((starts, _),) = self._meter.starts([part])
        return [(part, max(1, len(starts)))]


def _borders(text: str, starts: NDArray[np.int64], room: int) -> list[int]:
    """Characters at which a window begins, the first left out: after a space in the second half of the one before, if
    there is one."""
    borders = []
    first = 0  # token at which the window begins
    while (rest := len(starts) - first) > room:
        size = -(-rest // -(-rest // room))  # windows of equal size: a short last one would hardly count
        token = first + size
        last_space = text.rfind(" ", int(starts[first + size // 2]), int(starts[token]))
        if last_space >= 0:
            token = int(np.searchsorted(starts, last_space, "right"))
        token = int(np.searchsorted(starts, starts[token], "left"))  # the first token of this character
        if token <= first:  # a character of many tokens
            token = int(np.searchsorted(starts, starts[first + size], "right"))
            if token >= len(starts):
                break
        borders.append(int(starts[token]))
        first = token
    return borders


def _starts_by_bytes(text: str) -> NDArray[np.int64]:
    """Where tokens of BYTES bytes begin; one that begins inside a character counts for that character."""
    lengths = np.array([len(character.encode("utf-8", "replace")) for character in text], np.int64)
    ends = np.cumsum(lengths)
    return np.searchsorted(ends, np.arange(0, int(ends[-1]) if len(ends) else 0, BYTES), "right")
