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

from infra.errors import InputError
from infra.microworld.phrases import FILLER, LEADS, RELATIONS
from infra.microworld.words import COMPANY, NAMES, PERSON, PLACE, WORK

_SHARES = {PERSON: 1, PLACE: 2, WORK: 3, COMPANY: 4}  # one place for every two people, and so on
_ECHO_CHANCE = 0.25


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
    """A passage about one entity and the facts that it states, in the order of its text."""

    title: str
    text: str
    facts: tuple[Fact, ...]


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


def make_world(seed: int | str, people: int) -> World:
    """Invent a world with this many people (at least 4) and places, works and companies in proportion."""
    if people < 4:
        raise InputError(f"a world of {people} people is too small: ask for at least 4")
    rng = random.Random(f"world:{seed}:{people}")
    entities = {kind: _choose_names(rng, kind, max(2, people // share)) for kind, share in _SHARES.items()}
    facts: list[Fact] = []
    for name, relation in RELATIONS.items():
        values = entities.get(relation.value_kind) or NAMES[relation.value_kind]
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


def _choose_names(rng: random.Random, kind: str, count: int) -> tuple[str, ...]:
    """Distinct names: single words while they last, pairs of words for the whole kind beyond that."""
    words = NAMES[kind]
    if count <= len(words):
        return tuple(rng.sample(words, count))
    if count > len(words) ** 2:
        raise InputError(f"{count} names of kind {kind} are too many: the words allow {len(words) ** 2}")
    pairs = rng.sample(range(len(words) ** 2), count)
    return tuple(f"{words[pair // len(words)]} {words[pair % len(words)]}" for pair in pairs)


def _write(rng: random.Random, world: World, title: str) -> Document:
    stated = list(world.by_subject[title].values())
    for echoes in world.by_value.get(title, {}).values():
        stated += [fact for fact in echoes if rng.random() < _ECHO_CHANCE]
    rng.shuffle(stated)
    sentences = [_state(rng, fact, title) for fact in stated]
    for _ in range(rng.choice((0, 1, 1, 2))):
        sentences.insert(rng.randint(0, len(sentences)), rng.choice(FILLER).format(s=title))
    if sentences[0].split()[0] in (
        title.split()[0],
        *(fact.subject.split()[0] for fact in stated),
        *(fact.value.split()[0] for fact in stated),
    ):
        sentences[0] = f"{rng.choice(LEADS)} {sentences[0]}"
    return Document(title, " ".join(sentences), tuple(stated))


def _state(rng: random.Random, fact: Fact, title: str) -> str:
    relation = RELATIONS[fact.relation]
    templates = relation.statements if fact.subject == title else relation.echoes
    return rng.choice(templates).format(s=fact.subject, v=fact.value)
