"""Where a text is cut into chunks of at most so many tokens, without gap or overlap, and never through a character.

A token that begins inside a character (byte-level tokenizers write one emoji with four) belongs to the chunk in which
its character begins. For a tokenizer that does not say where its tokens stand, tokens are counted word by word. Chat
messages are cut where a message begins, if it fits. Left out: sentence borders, and characters that Unicode composes of
several; a chunk may end within a word, or between a flag's two letters.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from infra.models.tokens import Tokenizer, count_tokens

Span = tuple[int, int]  # [start, end) in characters

_PIECE_CHARACTERS = 500_000  # tokenised at once: more than 64k tokens of most texts
_EDGE_CHARACTERS = 1_000  # at the end of a piece, in which a space is looked for
_WORD = re.compile(r" ?[A-Za-z0-9]{1,16}|.", re.DOTALL)


def cut_text(text: str, size: int, tokenizer: Tokenizer, turns: Sequence[int] = ()) -> list[Span]:
    """A text in chunks of at most `size` tokens; `turns`: where the messages of a history begin."""
    if not text:
        return []
    borders = chunk_borders(token_starts(tokenizer, text), size, turns)
    return list(zip((0, *borders), (*borders, len(text)), strict=True))


def token_starts(tokenizer: Tokenizer, text: str) -> NDArray[np.int32]:
    """Character at which each token begins, ascending, [tokens]."""
    has_offsets = getattr(tokenizer, "backend_tokenizer", None) is not None
    starts = []
    for start, end in _pieces(text):
        piece = text[start:end]
        starts.append((_starts(tokenizer, piece) if has_offsets else _starts_by_count(tokenizer, piece)) + start)
    return np.maximum.accumulate(np.concatenate(starts), dtype=np.int32)


def _pieces(text: str) -> Iterator[Span]:
    """A very long text in pieces that begin at a space where they can, so that no token is split between two.

    A token with its offsets takes some 400 bytes while it is looked for.
    """
    start = 0
    while start < len(text):
        end = start + _PIECE_CHARACTERS
        if end < len(text):
            end = max(text.rfind(" ", end - _EDGE_CHARACTERS, end), end - _EDGE_CHARACTERS)
        yield start, min(end, len(text))
        start = end


def _starts(tokenizer: Tokenizer, text: str) -> NDArray[np.int32]:
    offsets = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).offsets
    return np.fromiter((start for start, _ in offsets), np.int32, len(offsets))


def _starts_by_count(tokenizer: Tokenizer, text: str) -> NDArray[np.int32]:
    """Where the tokens begin for a tokenizer that only counts: all tokens of a word at the word's start."""
    matches = list(_WORD.finditer(text))
    words = [match.group() for match in matches]
    distinct = sorted(set(words))
    counts = dict(zip(distinct, count_tokens(tokenizer, distinct), strict=True))
    return np.repeat(np.array([match.start() for match in matches], np.int32), [counts[word] for word in words])


def chunk_borders(starts: NDArray[np.int32], size: int, turns: Sequence[int] = ()) -> list[int]:
    """Characters at which a chunk begins, the first chunk left out.

    `turns`: where the messages of a history begin; a chunk has whole ones where they fit.
    """
    borders = []
    first_tokens = np.searchsorted(starts, np.asarray(turns, np.int32), "left")  # of the turns
    begin, token = 0, size
    while token < len(starts):
        turn = int(np.searchsorted(first_tokens, token, "right")) - 1  # the last that begins within the chunk
        if turn >= 0 and first_tokens[turn] > begin:
            begin = int(first_tokens[turn])
            borders.append(int(turns[turn]))
            token = begin + size
            continue
        first = int(np.searchsorted(starts, starts[token], "left"))  # of the tokens that make up this character
        if first <= token - size:  # the character alone is longer than a chunk: it is not cut all the same
            first = int(np.searchsorted(starts, starts[token], "right"))
            if first >= len(starts):
                break
        borders.append(int(starts[first]))
        begin, token = first, first + size
    return borders
