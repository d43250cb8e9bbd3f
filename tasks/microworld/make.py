"""Datasets of the microworld in the factory's input format: `questions.jsonl` in a folder, of any size.

`write_contexts` makes any number of questions, each with its context ready and with all that is known of it (see
`contexts`), in memory that does not grow: a fresh world every few questions, written as it is made. `write_pool`
makes questions of one world with the documents that support them, and `pool.jsonl` with every document of that world:
distractors of the same world, so no context contradicts itself, and the factory builds contexts at any length that
the pool can fill. The same arguments give the same bytes; a file appears under its name when it is whole.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, TextIO

from infra.errors import InputError
from infra.running import progress
from tasks.microworld.library import Library, Shown, fill_library, show
from tasks.microworld.preferences import chosen_answer, rejected_answer
from tasks.microworld.questions import SHARES_BY_HOPS, Question, make_questions
from tasks.microworld.words import Split
from tasks.microworld.world import Document, documents, make_world

Row = dict[str, Any]
QUESTIONS, POOL = "questions.jsonl", "pool.jsonl"
_QUESTIONS_A_WORLD = 16
_FEWEST_PEOPLE = 12  # so that a world has questions of every kind
_TOKENS_A_PERSON = 70  # of documents, places, works and companies included; more in large worlds, with longer names
_SPARE = 1.25  # a world has so much more text than a context, so that contexts differ


@dataclass(frozen=True)
class Wanted:
    """What to make: questions of at most `hops` hops (1 to 3) with contexts of at most `tokens` tokens.

    `split`: whose names to use, None for all; `people` a world, None for as many as the contexts need.
    A dataset of more questions begins with the rows of a smaller one.
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
class Made:
    """What was made: counts of questions, worlds and tokens of all contexts, questions by kind, pairs by fault."""

    questions: int
    worlds: int
    tokens: int
    kinds: dict[str, int]
    faults: dict[str, int]


def people_for(tokens: int) -> int:
    """How many people a world needs to fill contexts of this many tokens, each in another way."""
    return max(_FEWEST_PEOPLE, math.ceil(tokens * _SPARE / _TOKENS_A_PERSON))


def contexts(wanted: Wanted) -> Iterator[Row]:
    """The rows of `write_contexts`, as they are made.

    Each has, beside the native format's fields, in the metadata of the factory: `answer` in words, `world`, `tokens`
    (exact), `evidence` (each sentence of the context that states a fact of the answer: the fact, the passage's number,
    [start, end) in characters of the context), and the gold preference: `chosen`, `rejected` and its `fault`.

    Raises InputError when a world cannot fill the contexts, or the contexts cannot hold what a question needs.
    """
    made = (row for number in count() for row in _world_rows(wanted, number))
    for index, row in enumerate(islice(made, wanted.questions)):
        yield {"id": f"micro-{wanted.split or 'all'}-{wanted.seed}-{index:06d}", **row}


def write_contexts(folder: Path, wanted: Wanted) -> Made:
    """Write `questions.jsonl` with ready contexts. Raises InputError, see `contexts`."""
    kinds, faults = Counter[str](), Counter[str]()
    worlds, tokens, last = 0, 0, ""
    progress.expect("questions", wanted.questions)
    with _whole_file(folder / QUESTIONS) as file:
        for row in contexts(wanted):
            _write_row(file, row)
            kinds[row["kind"]] += 1
            faults[row["fault"]] += 1
            tokens += row["tokens"]
            worlds += row["world"] != last
            last = row["world"]
            progress.advance("questions")
    return Made(wanted.questions, worlds, tokens, dict(kinds), dict(faults))


def write_pool(folder: Path, questions: int, seed: int, people: int, hops: int = 2, split: Split | None = None) -> Made:
    """Write `questions.jsonl` and `pool.jsonl` for one world of this many people; there are no contexts, and no pairs.

    Raises InputError when the world has fewer questions than asked for.
    """
    world = make_world(seed, people, split)
    docs = documents(world)
    asked = make_questions(world, docs, seed, questions, SHARES_BY_HOPS[hops])
    with _whole_file(folder / QUESTIONS) as file:
        for index, question in enumerate(asked):
            _write_row(file, _pooled_row(f"micro-{seed}-{index:06d}", question, docs))
    with _whole_file(folder / POOL) as file:
        for document in docs:
            _write_row(file, _document_row(document))
    return Made(questions, 1, 0, dict(Counter(question.kind for question in asked)), {})


def _world_rows(wanted: Wanted, number: int) -> Iterator[Row]:
    """The questions of one world of the dataset, those whose supports fit into a context."""
    name = f"{wanted.split or 'all'}:{wanted.seed}:{number}"
    shelf = fill_library(make_world(name, wanted.people or people_for(wanted.tokens), wanted.split))
    if shelf.tokens < wanted.tokens:
        raise InputError(
            f"a world of {wanted.people} people has {shelf.tokens} tokens of documents, too few for contexts of "
            f"{wanted.tokens}: ask for {people_for(wanted.tokens)} people or shorter contexts"
        )
    rng = random.Random(f"contexts:{name}:{wanted.tokens}")
    made = 0
    for question in make_questions(shelf.world, shelf.docs, name, _QUESTIONS_A_WORLD, SHARES_BY_HOPS[wanted.hops]):
        shown = show(rng, shelf, question, wanted.tokens)
        if shown is not None:
            made += 1
            yield _context_row(rng, shelf, shown)
    if not made:
        raise InputError(f"contexts of {wanted.tokens} tokens cannot hold what a question needs: ask for 512 or more")


def _context_row(rng: random.Random, shelf: Library, shown: Shown) -> Row:
    question = shown.question
    rejected = rejected_answer(rng, question, shelf.world, frozenset(shown.titles))
    return {
        "question": question.question,
        "context": shown.context,
        "answer": question.answer,
        "answers": list(question.answers),
        "kind": question.kind,
        "language": "en",
        "world": shelf.world.seed,
        "tokens": shown.tokens,
        "evidence": [
            {
                "fact": [each.fact.subject, each.fact.relation, each.fact.value],
                "passage": each.passage,
                "start": each.start,
                "end": each.end,
            }
            for each in shown.evidence
        ],
        "chosen": chosen_answer(question),
        "rejected": rejected.text,
        "fault": rejected.fault,
    }


def _pooled_row(name: str, question: Question, docs: list[Document]) -> Row:
    return {
        "id": name,
        "question": question.question,
        "answer": question.answer,
        "answers": list(question.answers),
        "kind": question.kind,
        "language": "en",
        "documents": [_document_row(docs[index]) for index in question.supports],
    }


def _document_row(document: Document) -> Row:
    return {"title": document.title, "text": document.text}


@contextmanager
def _whole_file(path: Path) -> Iterator[TextIO]:
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
