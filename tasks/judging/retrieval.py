"""Chunks of a context (tasks/chunks.py), and those that lie nearest to a statement.

The context is tokenised once, whatever sizes are cut from it. Chunks are [start, end) character offsets into the
context's text, so that evidence can point at them.

Nearest means cosine of sentence embeddings. The chunks of a context are embedded once, however many answers there
are. The nearest chunks are put back into the order of the document, because the judge reads them as text. Of equally
near chunks the earlier one is taken.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infra.models.tokens import Tokenizer, load_tokenizer
from infra.recipe import Judge
from tasks.chunks import Span, chunk_borders, token_starts
from tasks.judging.asking import judge_settings
from tasks.judging.context import ScoringContext
from tasks.records.example import Context
from tasks.records.history import turn_starts

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
    starts = scoring.cache.get(("tokens", context.context_id), lambda: token_starts(tokenizer, context.text))
    borders = chunk_borders(starts, size, turn_starts(context))
    return tuple(zip((0, *borders), (*borders, len(context.text)), strict=True))


@functools.cache
def _tokenizer(name: str, trust_remote_code: bool) -> Tokenizer:
    return load_tokenizer(name, trust_remote_code)
