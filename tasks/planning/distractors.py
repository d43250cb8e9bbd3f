"""The pool of distractor documents: read once, deduplicated by text, bounded in memory, drawn by seed.

The pool is a file of documents {"title"?, "text"}, or else all documents of the questions' own source. What
stays in memory is at most POOL_BYTES of text: of a larger pool those documents are kept whose seeded digests
are the smallest, which is a fair sample that depends on neither order nor machine. Documents are ordered by
that digest too. Leaves out near-duplicates: two passages of one article are two documents.
"""

import hashlib
import heapq
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from infra.models.tokens import Tokenizer
from infra.recipe import Questions, Recipe
from infra.running import progress
from tasks.planning.passages import passage_tokens
from tasks.questions import read_questions, read_rows
from tasks.questions.question import document_field
from tasks.records.example import Document, Drop

POOL_BYTES = 128 << 20  # of UTF-8 text
_COUNT_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Pool:
    """Documents and about how many tokens each takes as a numbered passage."""

    documents: tuple[Document, ...]
    tokens: tuple[int, ...]
    warnings: tuple[str, ...]


def gather_pool(recipe: Recipe, questions: Questions, tokenizer: Tokenizer) -> Pool:
    """The pool of a recipe: of `contexts.pool`, or of all rows of `questions` (its limit does not count here).

    Empty when contexts are given. Raises InputError for a pool that cannot be read.
    """
    if recipe.contexts.build == "given":
        return Pool((), (), ())
    if recipe.contexts.pool:
        documents = _pool_file(recipe.contexts.pool)
    else:
        documents = _own_documents(questions.model_copy(update={"limit": None}))
    kept, left_out, unwritable = _sample(documents, recipe.seed)
    warnings = []
    if left_out:
        warnings.append(
            f"the pool holds more than {POOL_BYTES >> 20} MiB of text: "
            f"a seeded sample of {len(kept)} of its documents is used, {left_out} are left out"
        )
    if unwritable:
        warnings.append(f"{unwritable} documents of the pool hold lone surrogates and are left out")
    return Pool(tuple(kept), tuple(_sizes(kept, tokenizer)), tuple(warnings))


def draw(count: int, rng: random.Random) -> Iterator[int]:
    """The numbers below `count` in random order, lazily (a Fisher-Yates shuffle that keeps only its moves)."""
    moved: dict[int, int] = {}
    for last in range(count - 1, -1, -1):
        place = rng.randrange(last + 1)
        yield moved.get(place, place)
        moved[place] = moved.pop(last, last)


def _pool_file(source: str) -> Iterator[Document]:
    for row in read_rows(source):
        yield document_field(row, "(document)", row.values)


def _own_documents(questions: Questions) -> Iterator[Document]:
    for outcome in read_questions(questions, "pooled"):
        if not isinstance(outcome, Drop):
            yield from outcome.documents
            yield from outcome.distractors


def _sample(documents: Iterable[Document], seed: int) -> tuple[list[Document], int, int]:
    """(documents kept, by digest; how many did not fit; how many cannot be written as UTF-8)."""
    kept: dict[bytes, tuple[Document, int]] = {}
    largest: list[tuple[int, bytes]] = []  # a heap with the largest digest on top
    salt = hashlib.sha256(f"pool {seed}".encode()).digest()
    size = left_out = unwritable = 0
    for document in documents:
        if not document.text.strip():
            continue
        try:
            text = document.text.encode("utf-8")
            document.title.encode("utf-8")
        except UnicodeEncodeError:
            unwritable += 1
            continue
        digest = hashlib.sha256(salt + text).digest()
        if digest in kept:
            continue
        kept[digest] = (document, len(text))
        heapq.heappush(largest, (-int.from_bytes(digest), digest))
        size += len(text)
        progress.advance("pool")
        while size > POOL_BYTES and len(kept) > 1:
            _, gone = heapq.heappop(largest)
            size -= kept.pop(gone)[1]
            left_out += 1
    return [kept[digest][0] for digest in sorted(kept)], left_out, unwritable


def _sizes(documents: list[Document], tokenizer: Tokenizer) -> Iterator[int]:
    for start in range(0, len(documents), _COUNT_AT_ONCE):
        yield from passage_tokens(documents[start : start + _COUNT_AT_ONCE], tokenizer)
