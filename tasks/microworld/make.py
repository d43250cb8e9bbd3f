"""Datasets of the microworld in the factory's input format: a file `questions.jsonl` of any size in a folder.

`write_contexts` makes any number of questions, each with a ready context and everything that is known about it (see
`context_rows`). A fresh world serves every 16 questions and rows are written as they are made, so memory does not grow.
`write_pool` makes questions of one world with their supporting documents, and `pool.jsonl` with every document of that
world. The pool gives the factory distractors from the same world, so no context contradicts itself.
The same arguments give the same bytes; a file appears under its name only when it is complete.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, TextIO

from infra.errors import InputError
from infra.running import progress
from tasks.microworld.answers import chosen_answer, rejected_answer
from tasks.microworld.questions import SHARES_BY_HOPS, Question, in_reading_order, make_questions
from tasks.microworld.tokenizer import count_tokens
from tasks.microworld.words import Split
from tasks.microworld.world import Fact, World, WorldDocument, make_world, write_documents

Row = dict[str, Any]
QUESTIONS, POOL = "questions.jsonl", "pool.jsonl"
_QUESTIONS_PER_WORLD = 16
_MIN_PEOPLE = 12  # so that a world has questions of every kind
_TOKENS_PER_PERSON = 70  # of documents, places, works and companies included; more in worlds with longer names
_SPARE = 1.25  # a world has this many times the text of one context, so that its contexts differ
_GAP = "\n\n"  # between two passages


@dataclass(frozen=True)
class DatasetSettings:
    """What to make: questions of at most `hops` hops (1 to 3) with contexts of at most `tokens` tokens.

    `split`: the split that names come from, None for all names; `people` in a world, None for as many as the contexts
    need. A larger dataset begins with the rows of a smaller one.
    """

    questions: int
    tokens: int
    hops: int = 2
    seed: int = 7
    split: Split | None = "train"
    people: int | None = None

    def __post_init__(self) -> None:
        if self.questions < 1 or self.hops not in SHARES_BY_HOPS:
            raise InputError(f"{self.questions} questions of {self.hops} hops: ask for one or more, of 1 to 3 hops")


@dataclass(frozen=True)
class DatasetSummary:
    """Counts of what was made: questions, worlds, tokens of all contexts; questions by kind, preferences by fault."""

    questions: int
    worlds: int
    tokens: int
    kinds: dict[str, int]
    faults: dict[str, int]


@dataclass(frozen=True)
class Library:
    """The documents of a world and what they measure in the tokens of the model in the box.

    `sizes`: tokens of each document as a passage without its heading "Passage 1:". `heading_sizes`: tokens of all
    headings and gaps together, in a context of 0, 1, 2, ... passages.
    """

    world: World
    docs: tuple[WorldDocument, ...]
    sizes: tuple[int, ...]
    heading_sizes: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens of the context that holds every document."""
        return sum(self.sizes) + self.heading_sizes[-1]


@dataclass(frozen=True)
class Evidence:
    """A sentence of a context that states a fact: the number of its passage, and [start, end) in characters."""

    fact: Fact
    passage: int
    start: int
    end: int


@dataclass(frozen=True)
class QuestionInContext:
    """A question with its context. Lists are in reading order, tokens are exact, evidence is in order of reasoning."""

    question: Question
    context: str
    tokens: int
    titles: tuple[str, ...]
    evidence: tuple[Evidence, ...]


def people_for(tokens: int) -> int:
    """How many people a world needs so that its documents can fill different contexts of this many tokens."""
    return max(_MIN_PEOPLE, math.ceil(tokens * _SPARE / _TOKENS_PER_PERSON))


def context_rows(settings: DatasetSettings) -> Iterator[Row]:
    """The rows of `write_contexts`, one at a time.

    Beside the fields of the native format, a row has these, which the factory keeps as metadata: `answer` in words,
    `world`, `tokens` (exact), `evidence` (each sentence of the context that states a fact of the answer: the fact, the
    number of the passage, [start, end) in characters of the context), and the gold preference: `chosen`, `rejected` and
    its `fault`.

    Raises InputError when a world cannot fill the contexts, or the contexts cannot hold what a question needs.
    """
    rows = chain.from_iterable(_world_rows(settings, number) for number in count())
    for index, row in enumerate(islice(rows, settings.questions)):
        yield {"id": f"micro-{settings.split or 'all'}-{settings.seed}-{index:06d}", **row}


def write_contexts(folder: Path, settings: DatasetSettings) -> DatasetSummary:
    """Write `questions.jsonl` with ready contexts. Raises InputError, see `context_rows`."""
    kinds, faults = Counter[str](), Counter[str]()
    worlds, tokens, previous_world = 0, 0, ""
    progress.expect("questions", settings.questions)
    with _complete_file(folder / QUESTIONS) as file:
        for row in context_rows(settings):
            _write_row(file, row)
            kinds[row["kind"]] += 1
            faults[row["fault"]] += 1
            tokens += row["tokens"]
            worlds += row["world"] != previous_world
            previous_world = row["world"]
            progress.advance("questions")
    return DatasetSummary(settings.questions, worlds, tokens, dict(kinds), dict(faults))


def write_pool(
    folder: Path, questions: int, seed: int, people: int, hops: int = 2, split: Split | None = None
) -> DatasetSummary:
    """Write `questions.jsonl` and `pool.jsonl` for one world of this many people, without contexts and preferences.

    Raises InputError when the world has fewer questions than that.
    """
    world = make_world(seed, people, split)
    docs = write_documents(world)
    drawn = make_questions(world, docs, seed, questions, SHARES_BY_HOPS[hops])
    kinds = Counter[str]()
    with _complete_file(folder / QUESTIONS) as file:
        for index, question in enumerate(drawn):
            kinds[question.kind] += 1
            _write_row(file, _pooled_row(f"micro-{seed}-{index:06d}", question, docs))
    with _complete_file(folder / POOL) as file:
        for document in docs:
            _write_row(file, _document_row(document))
    return DatasetSummary(questions, 1, 0, dict(kinds), {})


def _world_rows(settings: DatasetSettings, number: int) -> Iterator[Row]:
    """The questions of one world of the dataset whose supports fit into a context."""
    name = f"{settings.split or 'all'}:{settings.seed}:{number}"
    people = settings.people or people_for(settings.tokens)
    library = _make_library(make_world(name, people, settings.split))
    if library.tokens < settings.tokens:
        raise InputError(
            f"a world of {people} people has {library.tokens} tokens of documents, too few for contexts of "
            f"{settings.tokens}: ask for {people_for(settings.tokens)} people or shorter contexts"
        )
    rng = random.Random(f"contexts:{name}:{settings.tokens}")
    shares = SHARES_BY_HOPS[settings.hops]
    has_rows = False
    for question in make_questions(library.world, library.docs, name, _QUESTIONS_PER_WORLD, shares):
        in_context = _put_into_context(rng, library, question, settings.tokens)
        if in_context is not None:
            has_rows = True
            yield _context_row(rng, library.world, in_context)
    if not has_rows:
        raise InputError(f"contexts of {settings.tokens} tokens cannot hold what a question needs: ask for 512 or more")


def _make_library(world: World) -> Library:
    """Write the documents of the world and count their tokens."""
    docs = tuple(write_documents(world))
    sizes = []
    for document in docs:
        sizes.append(count_tokens(f" {document.title}\n{document.text}"))
    heading_sizes = [0]
    for number in range(1, len(docs) + 1):
        gap = _GAP if number > 1 else ""
        heading_sizes.append(heading_sizes[-1] + count_tokens(f"{gap}Passage {number}:"))
    return Library(world, docs, tuple(sizes), tuple(heading_sizes))


def _put_into_context(
    rng: random.Random, library: Library, question: Question, max_tokens: int
) -> QuestionInContext | None:
    """The question with its supports among as many other documents as fit; None when not even the supports fit."""
    indices = _choose_documents(rng, library, question.supports, max_tokens)
    if indices is None:
        return None
    support_docs = []
    for index in indices:
        if index in question.supports:
            support_docs.append(library.docs[index])
    question = in_reading_order(question, support_docs)
    evidence: list[Evidence] = []
    passages: list[str] = []
    titles: list[str] = []
    tokens = library.heading_sizes[len(indices)]
    start = 0  # of the passage in the context, in characters
    for number, index in enumerate(indices, 1):
        document = library.docs[index]
        titles.append(document.title)
        tokens += library.sizes[index]
        heading = f"Passage {number}: {document.title}\n"
        passages.append(heading + document.text)
        if index in question.supports:
            evidence += _evidence_in(document, question, number, start + len(heading))
        start += len(passages[-1]) + len(_GAP)
    evidence.sort(key=lambda sentence: question.facts.index(sentence.fact))
    return QuestionInContext(question, _GAP.join(passages), tokens, tuple(titles), tuple(evidence))


def _evidence_in(document: WorldDocument, question: Question, number: int, offset: int) -> list[Evidence]:
    """The sentences of a document that state a fact of the question; its text begins at `offset` in the context."""
    evidence = []
    for fact, (start, end) in zip(document.facts, document.spans, strict=True):
        if fact in question.facts:
            evidence.append(Evidence(fact, number, offset + start, offset + end))
    return evidence


def _choose_documents(
    rng: random.Random, library: Library, supports: Sequence[int], max_tokens: int
) -> list[int] | None:
    """Indices of the documents of a context, in a random order in which every document may stand anywhere."""
    tokens, number = sum(library.sizes[index] for index in supports), len(supports)
    if tokens + library.heading_sizes[number] > max_tokens:
        return None
    chosen = []
    for index in rng.sample(range(len(library.sizes)), len(library.sizes)):
        if index in supports:
            continue
        size = library.sizes[index]
        if tokens + size + library.heading_sizes[number + 1] <= max_tokens:
            chosen.append(index)
            tokens += size
            number += 1
    for index in supports:
        chosen.insert(rng.randint(0, len(chosen)), index)
    return chosen


def _context_row(rng: random.Random, world: World, in_context: QuestionInContext) -> Row:
    question = in_context.question
    rejected = rejected_answer(rng, question, world, frozenset(in_context.titles))
    evidence = []
    for sentence in in_context.evidence:
        fact = [sentence.fact.subject, sentence.fact.relation, sentence.fact.value]
        evidence.append({"fact": fact, "passage": sentence.passage, "start": sentence.start, "end": sentence.end})
    return {
        "question": question.question,
        "context": in_context.context,
        "answer": question.answer,
        "answers": list(question.answers),
        "kind": question.kind,
        "language": "en",
        "world": world.seed,
        "tokens": in_context.tokens,
        "evidence": evidence,
        "chosen": chosen_answer(question),
        "rejected": rejected.text,
        "fault": rejected.fault,
    }


def _pooled_row(name: str, question: Question, docs: list[WorldDocument]) -> Row:
    return {
        "id": name,
        "question": question.question,
        "answer": question.answer,
        "answers": list(question.answers),
        "kind": question.kind,
        "language": "en",
        "documents": [_document_row(docs[index]) for index in question.supports],
    }


def _document_row(document: WorldDocument) -> Row:
    return {"title": document.title, "text": document.text}


@contextmanager
def _complete_file(path: Path) -> Iterator[TextIO]:
    """A file that gets its name when it is written to the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write_row(file: TextIO, row: Row) -> None:
    file.write(json.dumps(row, ensure_ascii=False) + "\n")
