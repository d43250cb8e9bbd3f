"""The pool of distractor documents: read once, deduplicated by text, bounded in memory, drawn by seed.

The pool is a file of documents {"title"?, "text"}, or else all documents of the questions' own source. At most
POOL_BYTES of text stay in memory: of a larger pool, the documents with the smallest seeded digests are used. That is
a fair sample, and it depends on neither order nor machine. Documents are ordered by that digest too. Near-duplicates
are not found: two passages of one article are two documents. Where the recipe replaces the questions' documents by
articles of the pool, those are collected on the way, sampled or not (tasks/planning/articles.py).
"""

import hashlib
import heapq
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import pyarrow as pa

from infra.models.tokens import Tokenizer
from infra.recipe import Questions, Recipe
from infra.running import progress
from tasks.planning.articles import Articles
from tasks.planning.passages import passage_tokens
from tasks.questions import read_questions, read_rows
from tasks.questions.question import document_field
from tasks.records.example import Document, Drop

POOL_BYTES = 128 << 20  # of UTF-8 text
_QUESTIONS = b"questions"  # in the metadata of a file of `write_documents`


@dataclass(frozen=True, slots=True)
class Pool:
    """Documents and about how many tokens each takes in a context; without `tokens` as it is gathered."""

    documents: Sequence[Document]
    tokens: Sequence[int]
    warnings: tuple[str, ...]
    articles: Articles | None = None  # in place of the questions' documents, where the recipe wants them
    questions: tuple[str, ...] = ()  # of other rows, where contexts hold some


NO_POOL = Pool((), (), ())


class MappedDocuments(Sequence[Document]):
    """The documents of a file of `write_documents`, mapped into memory, which all processes of a machine share."""

    def __init__(self, table: pa.Table) -> None:
        self._titles = table.column("title").chunk(0)
        self._texts = table.column("text").chunk(0)

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | Sequence[Document]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return Document(self._titles[index].as_py(), self._texts[index].as_py())


def write_documents(pool: Pool, path: Path) -> None:
    """Write the documents and questions of a pool as an Arrow file, for `map_pool`."""
    columns = {
        "title": pa.array([document.title for document in pool.documents], pa.string()),
        "text": pa.array([document.text for document in pool.documents], pa.string()),
    }
    table = pa.table(columns).replace_schema_metadata({_QUESTIONS: json.dumps(pool.questions)})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def map_pool(path: Path) -> Pool:
    """The pool in a file of `write_documents`, without tokens; its texts stay on disk until they are drawn."""
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    questions = tuple(json.loads(table.schema.metadata[_QUESTIONS]))
    return Pool(MappedDocuments(table) if table.num_rows else (), (), (), questions=questions)


def articles_mode(recipe: Recipe) -> Literal["prefer", "require"] | None:
    """How articles of the pool take the place of the questions' documents; None where they do not."""
    contexts = recipe.contexts
    if contexts.build != "pooled" or not contexts.pool or contexts.articles == "never":
        return None
    return contexts.articles


def gather_pool(recipe: Recipe, questions: Questions) -> Pool:
    """The documents of a recipe's pool: of `contexts.pool`, or of all rows of `questions` (its limit does not count).

    Raises InputError for a pool that cannot be read.
    """
    articles = None
    if recipe.contexts.pool:
        documents = pool_file(recipe.contexts.pool)
        mode = articles_mode(recipe)
        if mode is not None:
            articles = Articles(_own_titles(questions), mode)
            documents = articles.collect(documents)
    else:
        documents = own_documents(questions.model_copy(update={"limit": None}))
    sample, warnings = sample_documents(documents, recipe.seed)
    return Pool(tuple(sample), (), tuple(warnings), articles)


def sample_documents(documents: Iterable[Document], seed: int) -> tuple[list[Document], list[str]]:
    """(different documents that fit into memory, by a seeded digest; what a plan says of those left out)."""
    sample, left_out, unwritable = _sample(documents, seed)
    warnings = []
    if left_out:
        warnings.append(
            f"the pool holds more than {POOL_BYTES >> 20} MiB of text: "
            f"a seeded sample of {len(sample)} of its documents is used, {left_out} are left out"
        )
    if unwritable:
        warnings.append(f"{unwritable} documents of the pool hold lone surrogates and are left out")
    return sample, warnings


def draw(count: int, rng: random.Random) -> Iterator[int]:
    """The numbers below `count` in random order, lazily: a Fisher-Yates shuffle that stores only its moves."""
    moved: dict[int, int] = {}
    for last in range(count - 1, -1, -1):
        index = rng.randrange(last + 1)
        yield moved.get(index, index)
        moved[index] = moved.pop(last, last)


def pool_file(source: str) -> Iterator[Document]:
    for row in read_rows(source):
        yield document_field(row, "(document)", row.values)


def _own_titles(questions: Questions) -> Iterator[str]:
    for document in own_documents(questions):
        yield document.title


def own_documents(questions: Questions) -> Iterator[Document]:
    for outcome in read_questions(questions, "pooled"):
        if not isinstance(outcome, Drop):
            yield from outcome.documents
            yield from outcome.distractors


def _sample(documents: Iterable[Document], seed: int) -> tuple[list[Document], int, int]:
    """(the documents that fit, by digest; how many did not fit; how many cannot be written as UTF-8)."""
    sample: dict[bytes, tuple[Document, int]] = {}  # by digest, with the bytes of the text
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
        if digest in sample:
            continue
        sample[digest] = (document, len(text))
        heapq.heappush(largest, (-int.from_bytes(digest), digest))
        size += len(text)
        progress.advance("pool")
        while size > POOL_BYTES and len(sample) > 1:
            _, largest_digest = heapq.heappop(largest)
            size -= sample.pop(largest_digest)[1]
            left_out += 1
    return [sample[digest][0] for digest in sorted(sample)], left_out, unwritable


def passage_sizes(documents: Sequence[Document], recipe: Recipe, tokenizer: Tokenizer) -> list[int]:
    """About how many tokens each document takes as a passage."""
    return passage_tokens(documents, tokenizer, recipe.contexts.passages)
