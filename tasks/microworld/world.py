"""A seeded, closed and consistent world, and the documents that state it.

`make_world` invents entities and exactly one value for every relation of every entity. `write_documents` writes one
for each entity. The document of a value may repeat a fact about it (an echo), always with the same value, so no two
documents of a world contradict each other. The same seed gives the same text in every process. There is no time, no
number, no negation and no pronoun.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from infra.errors import InputError
from tasks.microworld.words import COMPANY, FILLER, LEADS, PERSON, PLACE, RELATIONS, WORK, Split, names_of

_PEOPLE_PER_ENTITY = {PERSON: 1, PLACE: 2, WORK: 3, COMPANY: 4}  # one place for every two people, and so on
_ECHO_CHANCE = 0.25
_MAX_WORDS_OF_NAME = 3


@dataclass(frozen=True)
class Fact:
    """One relation of one entity; its value is unique within a world."""

    subject: str
    relation: str
    value: str

    @property
    def sentence(self) -> str:
        """The canonical sentence of the fact, as answers state it."""
        return RELATIONS[self.relation].sentence(self.subject, self.value)


@dataclass(frozen=True)
class WorldDocument:
    """A text about one entity (its title), and the facts that it states, in the order of the text.

    `spans`: [start, end) of the sentence of each fact in `text`, in characters. Documents that were not written by
    `write_documents` may have no spans.
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
        """The facts of every entity, by relation."""
        table: dict[str, dict[str, Fact]] = {}
        for fact in self.facts:
            table.setdefault(fact.subject, {})[fact.relation] = fact
        return table

    @cached_property
    def by_value(self) -> dict[str, dict[str, list[Fact]]]:
        """The facts by value and relation: for example, all facts that say who lives in a place."""
        table: dict[str, dict[str, list[Fact]]] = {}
        for fact in self.facts:
            table.setdefault(fact.value, {}).setdefault(fact.relation, []).append(fact)
        return table


def subjects_of(facts: Iterable[Fact]) -> tuple[str, ...]:
    """The subject of every fact, in order, with repetitions."""
    return tuple(fact.subject for fact in facts)


def values_of(facts: Iterable[Fact]) -> tuple[str, ...]:
    """The value of every fact, in order, with repetitions."""
    return tuple(fact.value for fact in facts)


def entities_of(facts: Sequence[Fact]) -> set[str]:
    """All subjects and values of the facts."""
    return {*subjects_of(facts), *values_of(facts)}


def sentences_of(facts: Iterable[Fact]) -> list[str]:
    """The canonical sentence of every fact, in order."""
    return [fact.sentence for fact in facts]


def facts_about(subject: str, facts: Iterable[Fact]) -> list[Fact]:
    """Those of the facts that have this subject, in order."""
    return [fact for fact in facts if fact.subject == subject]


def stated_facts(docs: Iterable[WorldDocument]) -> list[Fact]:
    """All facts that the documents state, with repetitions, in reading order."""
    facts: list[Fact] = []
    for document in docs:
        facts += document.facts
    return facts


def make_world(seed: int | str, people: int, split: Split | None = None) -> World:
    """Invent a world with this many people (at least 4), and places, works and companies in proportion.

    With a `split`, names are made of the words of that split only: none of them is in a world of another split.
    Raises InputError when there are too few people, or more than there are names.
    """
    if people < 4:
        raise InputError(f"a world of {people} people is too small: ask for at least 4")
    rng = random.Random(f"world:{seed}:{people}" + (f":{split}" if split else ""))
    entities: dict[str, tuple[str, ...]] = {}
    for kind, people_per_entity in _PEOPLE_PER_ENTITY.items():
        count = max(2, people // people_per_entity)
        entities[kind] = _choose_names(rng, names_of(kind, split), count, kind)
    facts: list[Fact] = []
    for name, relation in RELATIONS.items():
        values = entities.get(relation.value_kind) or names_of(relation.value_kind)
        for subject in entities[relation.subject_kind]:
            value = rng.choice(values)
            while value == subject:
                value = rng.choice(values)
            facts.append(Fact(subject, name, value))
    return World(str(seed), entities, tuple(facts))


def write_documents(world: World) -> list[WorldDocument]:
    """One document for every entity, people first. Every fact is stated at least in the document of its subject."""
    rng = random.Random(f"documents:{world.seed}:{len(world.facts)}")
    docs = []
    for names in world.entities.values():
        for name in names:
            docs.append(_write_document(rng, world, name))
    return docs


def _choose_names(rng: random.Random, words: tuple[str, ...], count: int, kind: str) -> tuple[str, ...]:
    """Distinct names: of one word each if there are enough words, else all of two words, else all of three."""
    if count <= len(words):
        return tuple(rng.sample(words, count))
    length = 2
    while count > len(words) ** length:
        length += 1
        if length > _MAX_WORDS_OF_NAME:
            maximum = len(words) ** _MAX_WORDS_OF_NAME
            raise InputError(
                f"{count} names of kind {kind} are too many: the words allow {maximum}; ask for fewer people"
            )
    names = []
    for number in rng.sample(range(len(words) ** length), count):
        # the digits of the number, to the base of the number of words, are the words of the name
        name_words: list[str] = []
        for _ in range(length):
            number, digit = divmod(number, len(words))
            name_words.insert(0, words[digit])
        names.append(" ".join(name_words))
    return tuple(names)


def _write_document(rng: random.Random, world: World, title: str) -> WorldDocument:
    facts = list(world.by_subject[title].values())
    for facts_of_relation in world.by_value.get(title, {}).values():
        for fact in facts_of_relation:
            if rng.random() < _ECHO_CHANCE:
                facts.append(fact)
    rng.shuffle(facts)
    sentences = [_write_sentence(rng, fact, title) for fact in facts]
    states_fact = [True] * len(sentences)
    for _ in range(rng.choice((0, 1, 1, 2))):
        position = rng.randint(0, len(sentences))
        sentences.insert(position, rng.choice(FILLER).format(s=title))
        states_fact.insert(position, False)
    if _first_word(sentences[0]) in _first_words_of_names(title, facts):
        # without a lead, the title and the first sentence would read as one name of several words
        sentences[0] = f"{rng.choice(LEADS)} {sentences[0]}"
    spans = []
    start = 0
    for sentence, states in zip(sentences, states_fact, strict=True):
        end = start + len(sentence)
        if states:
            spans.append((start, end))
        start = end + 1
    return WorldDocument(title, " ".join(sentences), tuple(facts), tuple(spans))


def _write_sentence(rng: random.Random, fact: Fact, title: str) -> str:
    relation = RELATIONS[fact.relation]
    templates = relation.statements if fact.subject == title else relation.echoes
    return rng.choice(templates).format(s=fact.subject, v=fact.value)


def _first_words_of_names(title: str, facts: list[Fact]) -> set[str]:
    words = {_first_word(title)}
    for fact in facts:
        words |= {_first_word(fact.subject), _first_word(fact.value)}
    return words


def _first_word(text: str) -> str:
    return text.split()[0]
