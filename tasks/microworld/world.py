"""A seeded, closed and consistent world, and the documents that state it.

`make_world` invents entities and exactly one value for every relation of every entity. `documents` writes one
passage an entity; a value's passage may echo a fact, always with the same value, so no two documents of
a world contradict each other. The same seed gives the same text in every process. Time, numbers, negation and
pronouns are left out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from infra.errors import InputError
from tasks.microworld.phrases import FILLER, LEADS, RELATIONS
from tasks.microworld.words import COMPANY, PERSON, PLACE, WORK, Split, names_of

_SHARES = {PERSON: 1, PLACE: 2, WORK: 3, COMPANY: 4}  # one place for every two people, and so on
_ECHO_CHANCE = 0.25
_MOST_WORDS = 3  # of a name


@dataclass(frozen=True)
class Fact:
    """One relation of one entity; its value is unique within a world."""

    subject: str
    relation: str
    value: str

    @property
    def sentence(self) -> str:
        """The canonical sentence, as answers state it."""
        return RELATIONS[self.relation].sentence(self.subject, self.value)


@dataclass(frozen=True)
class Document:
    """A passage about one entity and the facts that it states, in the order of its text.

    `spans`: [start, end) in `text` of each fact's sentence, in characters; documents that were not written by
    `documents` may lack them.
    """

    title: str
    text: str
    facts: tuple[Fact, ...]
    spans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class World:
    """All entities by kind and all their facts, in a fixed order."""

    seed: str
    entities: dict[str, tuple[str, ...]]
    facts: tuple[Fact, ...]

    @cached_property
    def by_subject(self) -> dict[str, dict[str, Fact]]:
        """Every entity's facts by relation."""
        table: dict[str, dict[str, Fact]] = {}
        for fact in self.facts:
            table.setdefault(fact.subject, {})[fact.relation] = fact
        return table

    @cached_property
    def by_value(self) -> dict[str, dict[str, list[Fact]]]:
        """The facts by value and relation: the list of all who live in a place, say."""
        table: dict[str, dict[str, list[Fact]]] = {}
        for fact in self.facts:
            table.setdefault(fact.value, {}).setdefault(fact.relation, []).append(fact)
        return table


def make_world(seed: int | str, people: int, split: Split | None = None) -> World:
    """Invent a world with this many people (at least 4) and places, works and companies in proportion.

    With a `split`, its names are made of that split's words alone: no name of it is in a world of another split.
    """
    if people < 4:
        raise InputError(f"a world of {people} people is too small: ask for at least 4")
    rng = random.Random(f"world:{seed}:{people}" + (f":{split}" if split else ""))
    entities = {
        kind: _choose_names(rng, names_of(kind, split), max(2, people // share), kind)
        for kind, share in _SHARES.items()
    }
    facts: list[Fact] = []
    for name, relation in RELATIONS.items():
        values = entities.get(relation.value_kind) or names_of(relation.value_kind)
        for subject in entities[relation.subject_kind]:
            value = rng.choice(values)
            while value == subject:
                value = rng.choice(values)
            facts.append(Fact(subject, name, value))
    return World(str(seed), entities, tuple(facts))


def documents(world: World) -> list[Document]:
    """One document for every entity, people first; every fact stands in at least its subject's document."""
    rng = random.Random(f"documents:{world.seed}:{len(world.facts)}")
    return [_write(rng, world, name) for names in world.entities.values() for name in names]


def _choose_names(rng: random.Random, words: tuple[str, ...], count: int, kind: str) -> tuple[str, ...]:
    """Distinct names: single words while they last, two or three words for the whole kind beyond that."""
    if count <= len(words):
        return tuple(rng.sample(words, count))
    length = next((each for each in range(2, _MOST_WORDS + 1) if count <= len(words) ** each), None)
    if length is None:
        most = len(words) ** _MOST_WORDS
        raise InputError(f"{count} names of kind {kind} are too many: the words allow {most}; ask for fewer people")
    places = [len(words) ** each for each in reversed(range(length))]
    numbers = rng.sample(range(len(words) ** length), count)
    return tuple(" ".join(words[number // place % len(words)] for place in places) for number in numbers)


def _write(rng: random.Random, world: World, title: str) -> Document:
    stated = list(world.by_subject[title].values())
    for echoes in world.by_value.get(title, {}).values():
        stated += [fact for fact in echoes if rng.random() < _ECHO_CHANCE]
    rng.shuffle(stated)
    sentences = [_state(rng, fact, title) for fact in stated]
    stating = [True] * len(sentences)
    for _ in range(rng.choice((0, 1, 1, 2))):
        place = rng.randint(0, len(sentences))
        sentences.insert(place, rng.choice(FILLER).format(s=title))
        stating.insert(place, False)
    if sentences[0].split()[0] in (
        title.split()[0],
        *(fact.subject.split()[0] for fact in stated),
        *(fact.value.split()[0] for fact in stated),
    ):
        sentences[0] = f"{rng.choice(LEADS)} {sentences[0]}"
    ends = list(accumulate(len(sentence) + 1 for sentence in sentences))
    placed = zip(sentences, ends, stating, strict=True)
    spans = tuple((end - 1 - len(sentence), end - 1) for sentence, end, states in placed if states)
    return Document(title, " ".join(sentences), tuple(stated), spans)


def _state(rng: random.Random, fact: Fact, title: str) -> str:
    relation = RELATIONS[fact.relation]
    templates = relation.statements if fact.subject == title else relation.echoes
    return rng.choice(templates).format(s=fact.subject, v=fact.value)
