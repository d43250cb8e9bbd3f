"""Chunks of a context, and the chunks that lie nearest to a statement.

A context is cut into chunks of at most so many tokens, without gap or overlap, and never through a character. Chunks
are [start, end) character offsets into the context's text, so that evidence can point at them. The context is
tokenised once, whatever sizes are cut from it. A token that begins inside a character (byte-level tokenizers write
one emoji with four) belongs to the chunk in which its character begins. For a tokenizer that does not say where its
tokens stand, tokens are counted word by word. Chat messages are cut where a message begins, if it fits. Left out:
sentence borders, and characters that Unicode composes of several; a chunk may end within a word, or between a flag's
two letters.

Nearest means cosine of sentence embeddings. The chunks of a context are embedded once, however many answers there
are. The nearest chunks are put back into the order of the document, because the judge reads them as text. Of equally
near chunks the earlier one is taken.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infra.models.tokens import Tokenizer, count_tokens, load_tokenizer
from infra.recipe import Judge
from tasks.judging.asking import judge_settings
from tasks.judging.context import ScoringContext
from tasks.records.example import Context
from tasks.records.history import turn_starts

Span = tuple[int, int]  # [start, end) in characters

_PIECE_CHARACTERS = 500_000  # tokenised at once: more than 64k tokens of most texts
_EDGE_CHARACTERS = 1_000  # at the end of a piece, in which a space is looked for
_WORD = re.compile(r" ?[A-Za-z0-9]{1,16}|.", re.DOTALL)
_DIGITS = 5  # of a cosine: beyond them, machines differ


@dataclass(frozen=True, slots=True)
class EmbeddedChunks:
    """The chunks of one context and their vectors, [chunks, d], rows of length 1."""

    spans: tuple[Span, ...]
    vectors: NDArray[np.float32]


def nearest_chunks(
    statements: Sequence[str], context: Context, size: int, count: int, scoring: ScoringContext
) -> list[tuple[Span, ...]]:
    """For each statement the `count` nearest chunks of `size` tokens, in the order of the document."""
    if not statements:
        return []
    chunks = embedded_chunks(context, size, scoring)
    vectors = scoring.embedder().embed(statements)
    if not chunks.spans or not vectors.shape[1] or not chunks.vectors.shape[1]:
        return [chunks.spans[:count]] * len(statements)
    cosines = np.round(vectors.astype(np.float64) @ chunks.vectors.astype(np.float64).T, _DIGITS)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    return [tuple(chunks.spans[place] for place in sorted(row)) for row in order.tolist()]


def embedded_chunks(context: Context, size: int, scoring: ScoringContext) -> EmbeddedChunks:
    """The context in chunks of `size` tokens with their embeddings, computed once per context."""

    def embed() -> EmbeddedChunks:
        spans = chunk_spans(context, size, scoring)
        return EmbeddedChunks(spans, scoring.embedder().embed([context.text[start:end] for start, end in spans]))

    return scoring.cache.get(("embedded", context.context_id, size), embed)


def chunk_spans(context: Context, size: int, scoring: ScoringContext) -> tuple[Span, ...]:
    """The context in chunks of at most `size` tokens of the judge's tokenizer; together they are the whole text."""
    judge = judge_settings(scoring)
    return scoring.cache.get(("chunks", context.context_id, size), lambda: _cut(context, size, judge, scoring))


def passages_text(context: Context, passages: Sequence[Span]) -> str:
    """The passages in their order, with a blank line between them."""
    return "\n\n".join(context.text[start:end].strip() for start, end in passages)


def _cut(context: Context, size: int, judge: Judge, scoring: ScoringContext) -> tuple[Span, ...]:
    if not context.text:
        return ()
    tokenizer = _tokenizer(judge.tokenizer, judge.trust_remote_code)
    starts = scoring.cache.get(("tokens", context.context_id), lambda: _token_starts(tokenizer, context.text))
    borders = _borders(starts, size, turn_starts(context))
    return tuple(zip((0, *borders), (*borders, len(context.text)), strict=True))


@functools.cache
def _tokenizer(name: str, trust_remote_code: bool) -> Tokenizer:
    return load_tokenizer(name, trust_remote_code)


def _token_starts(tokenizer: Tokenizer, text: str) -> NDArray[np.int32]:
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


def _borders(starts: NDArray[np.int32], size: int, turns: Sequence[int] = ()) -> list[int]:
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
