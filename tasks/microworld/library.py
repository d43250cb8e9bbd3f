"""A world's documents ready to be put into contexts: passages of known size, and where their facts stand.

Contexts have the form in which the factory shows documents (`Passage 1: TITLE`, the text, a blank line), up to a
number of tokens that is counted exactly. Leaves out how the questions are drawn, see `make`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from tasks.microworld.counting import count_tokens
from tasks.microworld.questions import Question, in_reading_order
from tasks.microworld.world import Document, Fact, World, documents

_GAP = "\n\n"  # between two passages


@dataclass(frozen=True)
class Library:
    """The documents of a world.

    `sizes`: tokens of each as a passage without "Passage 1:"; `numbering`: what that and the gaps take, all in all,
    in a context of 0, 1, 2, ... passages.
    """

    world: World
    docs: tuple[Document, ...]
    sizes: tuple[int, ...]
    numbering: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens of the context that shows every document."""
        return sum(self.sizes) + self.numbering[-1]


@dataclass(frozen=True)
class Evidence:
    """A sentence of a context that states a fact: the passage's number and [start, end) in characters."""

    fact: Fact
    passage: int
    start: int
    end: int


@dataclass(frozen=True)
class Shown:
    """A question with its context: lists in reading order, the tokens exact, evidence in the order of reasoning."""

    question: Question
    context: str
    tokens: int
    titles: tuple[str, ...]
    evidence: tuple[Evidence, ...]


def fill_library(world: World) -> Library:
    """Write and count the world's documents."""
    docs = tuple(documents(world))
    sizes = tuple(count_tokens(f" {doc.title}\n{doc.text}") for doc in docs)
    headings = (count_tokens(f"{_GAP if number > 1 else ''}Passage {number}:") for number in range(1, len(docs) + 1))
    return Library(world, docs, sizes, (0, *accumulate(headings)))


def show(rng: random.Random, shelf: Library, question: Question, most: int) -> Shown | None:
    """The question's supports among as many others as fit into `most` tokens; None when they alone do not."""
    order = _chosen(rng, shelf, question.supports, most)
    if order is None:
        return None
    docs = [shelf.docs[index] for index in order]
    heads = [f"Passage {number}: {doc.title}\n" for number, doc in enumerate(docs, 1)]
    parts = [f"{head}{doc.text}" for head, doc in zip(heads, docs, strict=True)]
    starts = [0, *accumulate(len(part) + len(_GAP) for part in parts)]
    needed = set(question.supports)
    supporting = [place for place, index in enumerate(order) if index in needed]
    asked = in_reading_order(question, [docs[place] for place in supporting])
    evidence = [
        Evidence(fact, place + 1, (text := starts[place] + len(heads[place])) + start, text + end)
        for place in supporting
        for fact, (start, end) in zip(docs[place].facts, docs[place].spans, strict=True)
        if fact in asked.facts
    ]
    evidence.sort(key=lambda each: asked.facts.index(each.fact))
    tokens = sum(shelf.sizes[index] for index in order) + shelf.numbering[len(order)]
    return Shown(asked, _GAP.join(parts), tokens, tuple(doc.title for doc in docs), tuple(evidence))


def _chosen(rng: random.Random, shelf: Library, supports: Sequence[int], most: int) -> list[int] | None:
    """Indices of the documents to show, in a random order in which every document may stand anywhere."""
    sizes, numbering, needed = shelf.sizes, shelf.numbering, set(supports)
    used, count = sum(sizes[index] for index in supports), len(supports)
    if used + numbering[count] > most:
        return None
    order = []
    for index in rng.sample(range(len(sizes)), len(sizes)):
        if index not in needed and used + sizes[index] + numbering[count + 1] <= most:
            order.append(index)
            used += sizes[index]
            count += 1
    for index in supports:
        order.insert(rng.randint(0, len(order)), index)
    return order
