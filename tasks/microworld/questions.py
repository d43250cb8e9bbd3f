"""Questions over a world with gold answers, the facts that prove them and the documents that state those.

Four kinds: `one-hop` (one fact), `two-hop` (the value of the first fact is the subject of the second), `three-hop`
(one fact more; nobody comes up twice on the way) and `list` (every subject with a given value, or everything known
of one entity). The supports are *all* documents that state one of the facts, so any context that holds the
supports holds the whole answer.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from infra.errors import InputError
from tasks.microworld.phrases import ABOUT, RELATIONS
from tasks.microworld.world import Document, Fact, World

ONE_HOP, TWO_HOP, THREE_HOP, LIST = "one-hop", "two-hop", "three-hop", "list"
KINDS = (ONE_HOP, TWO_HOP, LIST, THREE_HOP)  # the order in which they are drawn: a new kind goes to the end
SHARES = {ONE_HOP: 0.3, TWO_HOP: 0.5, LIST: 0.2}
SHARES_BY_HOPS = {  # by the longest chain
    1: {ONE_HOP: 0.75, LIST: 0.25},
    2: SHARES,
    3: {ONE_HOP: 0.2, TWO_HOP: 0.3, THREE_HOP: 0.3, LIST: 0.2},
}
_LONGEST_LIST = 5


@dataclass(frozen=True)
class Question:
    """A question about one world.

    `answers` has one string for a hop question; for a list question every one of them is needed. `facts`
    prove the answer in the order of reasoning, `supports` are indices into the world's documents.
    """

    question: str
    answers: tuple[str, ...]
    kind: str
    facts: tuple[Fact, ...]
    supports: tuple[int, ...]

    @property
    def answer(self) -> str:
        """The answer in words: "A", or "A, B and C"."""
        return join_words(self.answers)

    @property
    def plan(self) -> str:
        """What has to be found, in words: "the mentor and then the home"."""
        if self.kind == LIST:
            return "each one that the text names"
        return " and then ".join(f"the {RELATIONS[fact.relation].noun}" for fact in self.facts)

    @property
    def reasoning(self) -> str:
        """The gold chain of thought: every fact in its canonical sentence, then the answer line."""
        return " ".join(fact.sentence for fact in self.facts) + f"\nAnswer: {self.answer}"


@dataclass(frozen=True)
class _Subject:
    """What can be asked: the facts that lead to the answer, and which end of the last one is wanted."""

    kind: str
    facts: tuple[Fact, ...]
    about: str = ""


def make_questions(
    world: World,
    docs: Sequence[Document],
    seed: int | str,
    count: int,
    shares: dict[str, float] | None = None,
) -> list[Question]:
    """Draw distinct questions in the given shares of kinds (SHARES); others fill up for a kind that runs short.

    Raises InputError when the world has fewer questions than asked for: take more people.
    """
    rng = random.Random(f"questions:{world.seed}:{seed}:{count}")
    wanted = shares or SHARES
    subjects = _subjects(world, {kind for kind, share in wanted.items() if share})
    for kind in subjects:
        rng.shuffle(subjects[kind])
    chosen: list[_Subject] = []
    for kind in subjects:
        take = round(count * wanted[kind])
        chosen += subjects[kind][:take]
        subjects[kind] = subjects[kind][take:]
    spare = [subject for kind in subjects for subject in subjects[kind]]
    rng.shuffle(spare)
    chosen = (chosen + spare[: max(0, count - len(chosen))])[:count]
    if len(chosen) < count:
        raise InputError(f"this world has only {len(chosen)} questions, {count} were asked for: add people")
    rng.shuffle(chosen)
    stated = _stated_in(docs)
    return [_ask(rng, subject, stated) for subject in chosen]


def join_words(words: Sequence[str]) -> str:
    """Write a list in English: "A", "A and B", "A, B and C"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def in_reading_order(question: Question, shown: Sequence[Document]) -> Question:
    """The question with a list's facts and answers in the order in which the shown documents state them."""
    if question.kind != LIST:
        return question
    order: dict[Fact, int] = {}
    for document in shown:
        for fact in document.facts:
            order.setdefault(fact, len(order))
    facts = tuple(sorted(question.facts, key=order.__getitem__))
    shared = all(fact.value == facts[0].value for fact in facts) and facts[0].subject in question.answers
    answers = tuple(fact.subject if shared else fact.value for fact in facts)
    return Question(question.question, answers, LIST, facts, question.supports)


def _stated_in(docs: Sequence[Document]) -> dict[Fact, list[int]]:
    stated: dict[Fact, list[int]] = {}
    for index, document in enumerate(docs):
        for fact in document.facts:
            stated.setdefault(fact, []).append(index)
    return stated


def _subjects(world: World, kinds: Collection[str]) -> dict[str, list[_Subject]]:
    """What can be asked, by kind, in the order of KINDS."""
    chains = {ONE_HOP: 1, TWO_HOP: 2, THREE_HOP: 3}
    return {
        kind: list(_list_subjects(world))
        if kind == LIST
        else [_Subject(kind, facts) for facts in _chains(world, chains[kind])]
        for kind in KINDS
        if kind in kinds
    }


def _chains(world: World, hops: int) -> Iterable[tuple[Fact, ...]]:
    """All chains of facts in which each value is the next one's subject and no entity comes up twice."""
    if hops == 1:
        return [(fact,) for fact in world.facts]
    return [
        (*chain, last)
        for chain in _chains(world, hops - 1)
        for last in world.by_subject.get(chain[-1].value, {}).values()
        if all(last.value != fact.subject for fact in chain)
    ]


def _list_subjects(world: World) -> Iterable[_Subject]:
    for value, by_relation in world.by_value.items():
        for relation, facts in by_relation.items():
            if RELATIONS[relation].list_questions and 2 <= len(facts) <= _LONGEST_LIST:
                yield _Subject(LIST, tuple(facts), about=value)
    for subject, table in world.by_subject.items():
        if subject not in world.by_value:  # or the text would say more than its own facts
            yield _Subject(LIST, tuple(table.values()))


def _ask(rng: random.Random, subject: _Subject, stated: dict[Fact, list[int]]) -> Question:
    first, last = subject.facts[0], subject.facts[-1]
    relation = RELATIONS[last.relation]
    answers: tuple[str, ...] = (last.value,)
    if subject.kind == ONE_HOP:
        text = rng.choice(relation.questions).format(s=first.subject)
    elif subject.kind in (TWO_HOP, THREE_HOP):
        text = rng.choice(relation.questions).format(s=_phrase(rng, subject.facts[:-1]))
    elif subject.about:
        text = rng.choice(relation.list_questions).format(v=subject.about)
        answers = tuple(fact.subject for fact in subject.facts)
    else:
        text = rng.choice(ABOUT).format(s=first.subject)
        answers = tuple(fact.value for fact in subject.facts)
    supports = sorted({index: None for fact in subject.facts for index in stated[fact]})
    return Question(text, answers, subject.kind, subject.facts, tuple(supports))


def _phrase(rng: random.Random, facts: Sequence[Fact]) -> str:
    """The entity at the end of a chain by its way there; only the first step may be a genitive ("X's founder")."""
    first, noun = facts[0].subject, RELATIONS[facts[0].relation].noun
    phrase = rng.choice((f"the {noun} of {first}", f"the {noun} of {first}", f"{first}'s {noun}"))
    for fact in facts[1:]:
        phrase = f"the {RELATIONS[fact.relation].noun} of {phrase}"
    return phrase
