"""Finding the chunks of a context that lie nearest to a statement: cosine of sentence embeddings.

The chunks of a context are embedded once, however many answers and questions there are. The nearest k are put
back into the order of the document, because the judge reads them as text. Ties go to the earlier chunk.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.judging.asking import judge_of
from tasks.judging.chunks import Span, chunk_spans
from tasks.records.example import Context
from tasks.scoring import ScoringContext

_DIGITS = 5  # of a cosine: beyond them, machines differ


@dataclass(frozen=True, slots=True)
class EmbeddedContext:
    """Chunks of one context and their vectors, [chunks, d], rows of length 1."""

    spans: tuple[Span, ...]
    vectors: NDArray[np.float32]


def embedded(context: Context, size: int, bench: ScoringContext) -> EmbeddedContext:
    """The context in chunks of `size` tokens with their embeddings, worked out once per context."""
    return bench.memo.get(("embedded", context.context_id, size), lambda: _embed(context, size, bench))


def nearest(
    statements: Sequence[str], context: Context, size: int, count: int, bench: ScoringContext
) -> list[tuple[Span, ...]]:
    """For each statement the `count` nearest chunks, in the order of the document."""
    if not statements:
        return []
    known = embedded(context, size, bench)
    vectors = bench.embedder().embed(statements)
    if not known.spans or not vectors.shape[1] or not known.vectors.shape[1]:
        return [known.spans[:count]] * len(statements)
    cosines = np.round(vectors.astype(np.float64) @ known.vectors.astype(np.float64).T, _DIGITS)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    return [tuple(known.spans[place] for place in sorted(row)) for row in order.tolist()]


def _embed(context: Context, size: int, bench: ScoringContext) -> EmbeddedContext:
    judge, _ = judge_of(bench)
    spans = chunk_spans(context, size, judge, bench.memo)
    return EmbeddedContext(spans, bench.embedder().embed([context.text[start:end] for start, end in spans]))
