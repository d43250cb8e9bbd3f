"""Cutting a context into chunks of so many tokens: without gap or overlap, and never through a character.

Chunks are [start, end) character offsets into the context's text, so that evidence can point at them. The context
is tokenised once, whatever sizes are cut from it. A token that begins inside a character (byte-level tokenizers
spell one emoji with four) belongs to the chunk in which its character begins. A tokenizer that cannot tell where
its tokens stand is asked to count instead. What it leaves out: sentence borders; a chunk may end within a word.
"""

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from infra.recipe import Judge
from infra.tokens import Tokenizer, count_tokens, load_tokenizer
from tasks.judging.memo import Memo
from tasks.nouns import Context

Span = tuple[int, int]  # [start, end) in characters


def chunk_spans(context: Context, size: int, judge: Judge, memo: Memo) -> tuple[Span, ...]:
    """The context in chunks of at most `size` tokens of the judge's tokenizer; together they are the whole text."""
    return memo.get(("chunks", context.context_id, size), lambda: _cut(context, size, judge, memo))


def _cut(context: Context, size: int, judge: Judge, memo: Memo) -> tuple[Span, ...]:
    if not context.text:
        return ()
    tokenizer = memo.get(
        ("tokenizer", judge.tokenizer), lambda: load_tokenizer(judge.tokenizer, judge.trust_remote_code)
    )
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        return _spans(_counted_borders(tokenizer, context.text, size), len(context.text))
    starts = memo.get(("tokens", context.context_id), lambda: _token_starts(tokenizer, context.text))
    return _spans(_borders(starts, size), len(context.text))


@functools.cache
def _tokenizer(name: str, trust_remote_code: bool) -> Tokenizer:
    return load_tokenizer(name, trust_remote_code)


def _token_starts(tokenizer: Tokenizer, text: str) -> NDArray[np.int64]:
    """Character at which each token begins, ascending, [tokens]."""
    offsets = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).offsets
    return np.fromiter((start for start, _ in offsets), np.int64, len(offsets))


def _borders(starts: NDArray[np.int64], size: int) -> list[int]:
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


def _counted_borders(tokenizer: Tokenizer, text: str, size: int) -> list[int]:
    """As `_borders`, by bisection over counts."""
    borders: list[int] = []
    start = 0
    while True:
        low, high = start + 1, min(len(text), start + 16 * size)  # one character, and more than ever fits
        while low < high:
            middle = (low + high + 1) // 2
            if count_tokens(tokenizer, [text[start:middle]])[0] <= size:
                low = middle
            else:
                high = middle - 1
        start = low
        if start >= len(text):
            return borders
        borders.append(start)


def _spans(borders: Sequence[int], length: int) -> tuple[Span, ...]:
    return tuple(zip((0, *borders), (*borders, length), strict=True))
