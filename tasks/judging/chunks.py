"""Cutting a context into chunks of so many tokens: without gap or overlap, and never through a character.

Chunks are [start, end) character offsets into the context's text, so that evidence can point at them. The context
is tokenised once, whatever sizes are cut from it. A token that begins inside a character (byte-level tokenizers
spell one emoji with four) belongs to the chunk in which its character begins. A tokenizer that cannot tell where
its tokens stand counts word by word instead. What it leaves out: sentence borders, and what Unicode composes of
several characters; a chunk may end within a word, or between a flag's two letters.
"""

import functools
import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from infra.models.tokens import Tokenizer, count_tokens, load_tokenizer
from infra.recipe import Judge
from tasks.judging.memo import Memo
from tasks.records.example import Context

Span = tuple[int, int]  # [start, end) in characters

_PIECE_CHARACTERS = 500_000  # tokenised at once: more than 64k tokens of most texts
_EDGE_CHARACTERS = 1_000  # of a piece, in which a space is looked for
_WORD = re.compile(r" ?[A-Za-z0-9]{1,16}|.", re.DOTALL)


def chunk_spans(context: Context, size: int, judge: Judge, memo: Memo) -> tuple[Span, ...]:
    """The context in chunks of at most `size` tokens of the judge's tokenizer; together they are the whole text."""
    return memo.get(("chunks", context.context_id, size), lambda: _cut(context, size, judge, memo))


def _cut(context: Context, size: int, judge: Judge, memo: Memo) -> tuple[Span, ...]:
    if not context.text:
        return ()
    tokenizer = _tokenizer(judge.tokenizer, judge.trust_remote_code)
    starts = memo.get(("tokens", context.context_id), lambda: _token_starts(tokenizer, context.text))
    borders = _borders(starts, size)
    return tuple(zip((0, *borders), (*borders, len(context.text)), strict=True))


@functools.cache
def _tokenizer(name: str, trust_remote_code: bool) -> Tokenizer:
    return load_tokenizer(name, trust_remote_code)


def _token_starts(tokenizer: Tokenizer, text: str) -> NDArray[np.int32]:
    """Character at which each token begins, ascending, [tokens]."""
    find = _starts_by_count if getattr(tokenizer, "backend_tokenizer", None) is None else _starts
    starts = [find(tokenizer, text[start:end]) + start for start, end in _pieces(text)]
    return np.maximum.accumulate(np.concatenate(starts), dtype=np.int32)


def _pieces(text: str) -> Iterator[Span]:
    """A very long text in pieces that begin at a space where they can, so that no token is split between two.

    A token with its offsets costs some 400 bytes while it is found.
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
    """Where the tokens begin for a tokenizer that only counts: all those of a word at the word's start."""
    words = [match.span() for match in _WORD.finditer(text)]
    spelt = [text[start:end] for start, end in words]
    distinct = sorted(set(spelt))
    counts = dict(zip(distinct, count_tokens(tokenizer, distinct), strict=True))
    return np.repeat(np.array([start for start, _ in words], np.int32), [counts[word] for word in spelt])


def _borders(starts: NDArray[np.int32], size: int) -> list[int]:
    """Characters at which a chunk begins, the first one left out."""
    borders, token = [], size
    while token < len(starts):
        first = int(np.searchsorted(starts, starts[token], "left"))  # of the tokens that spell this character
        if first <= token - size:  # the character alone is longer than a chunk: it is not cut all the same
            first = int(np.searchsorted(starts, starts[token], "right"))
            if first >= len(starts):
                break
        borders.append(int(starts[first]))
        token = first + size
    return borders
