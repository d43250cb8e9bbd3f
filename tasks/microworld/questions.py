"""Questions about a world, with gold answers, the facts that prove them and the documents that state those facts.

There are four kinds: `one-hop` (one fact), `two-hop` (the value of the first fact is the subject of the second),
`three-hop` (one fact more; no entity comes up twice in the chain) and `list` (every subject with a given value, or all
values of one entity). The supports of a question are *all* documents that state one of its facts, so any context that
holds the supports holds the whole answer.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from infra.errors import InputError
from tasks.microworld.words import ABOUT, RELATIONS
from tasks.microworld.world import Fact, World, WorldDocument, sentences_of, subjects_of, values_of

ONE_HOP, TWO_HOP, THREE_HOP, LIST = "one-hop", "two-hop", "three-hop", "list"
KINDS = (ONE_HOP, TWO_HOP, LIST, THREE_HOP)  # the order in which they are drawn: a new kind goes to the end
SHARES = {ONE_HOP: 0.3, TWO_HOP: 0.5, LIST: 0.2}
SHARES_BY_HOPS = {  # by the longest chain
    1: {ONE_HOP: 0.75, LIST: 0.25},
    2: SHARES,
    3: {ONE_HOP: 0.2, TWO_HOP: 0.3, THREE_HOP: 0.3, LIST: 0.2},
}
_HOPS = {ONE_HOP: 1, TWO_HOP: 2, THREE_HOP: 3}
_MAX_LIST_ITEMS = 5


@dataclass(frozen=True)
class Question:
    """A question about one world.

    `answers` has one string for a hop question; a list question needs all of its strings. `facts` prove the answer, in
    the order of reasoning; `supports` are indices into the documents of the world.
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
        return " ".join(sentences_of(self.facts)) + f"\nAnswer: {self.answer}"


@dataclass(frozen=True)
class _Candidate:
    """A question that is not in words yet: the facts that lead to the answer.

    `value`: for a list of all subjects with this value; empty for every other question.
    """

    kind: str
    facts: tuple[Fact, ...]
    value: str = ""


def make_questions(
    world: World,
    docs: Sequence[WorldDocument],
    seed: int | str,
    count: int,
    shares: dict[str, float] | None = None,
) -> list[Question]:
    """Draw distinct questions, each kind with its share (SHARES by default); other kinds replace one that runs short.

    Raises InputError when the world has fewer than `count` questions: take more people.
    """
    rng = random.Random(f"questions:{world.seed}:{seed}:{count}")
    shares = shares or SHARES
    candidates = _candidates(world, {kind for kind in shares if shares[kind]})
    for candidates_of_kind in candidates.values():
        rng.shuffle(candidates_of_kind)
    chosen: list[_Candidate] = []
    spare: list[_Candidate] = []
    for kind, candidates_of_kind in candidates.items():
        number = round(count * shares[kind])
        chosen += candidates_of_kind[:number]
        spare += candidates_of_kind[number:]
    rng.shuffle(spare)
    chosen = (chosen + spare[: max(0, count - len(chosen))])[:count]
    if len(chosen) < count:
        raise InputError(f"this world has only {len(chosen)} questions, {count} were asked for: add people")
    rng.shuffle(chosen)
    fact_documents = _documents_by_fact(docs)
    return [_write_question(rng, candidate, fact_documents) for candidate in chosen]


def join_words(words: Sequence[str]) -> str:
    """Write a list in English: "A", "A and B", "A, B and C"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def in_reading_order(question: Question, docs: Sequence[WorldDocument]) -> Question:
    """The question, with the facts and answers of a list in the order in which these documents state them."""
    if question.kind != LIST:
        return question
    order: dict[Fact, int] = {}
    for document in docs:
        for fact in document.facts:
            order.setdefault(fact, len(order))
    facts = tuple(sorted(question.facts, key=order.__getitem__))
    has_one_value = len(set(values_of(facts))) == 1
    answers = subjects_of(facts) if has_one_value and facts[0].subject in question.answers else values_of(facts)
    return Question(question.question, answers, LIST, facts, question.supports)


def _documents_by_fact(docs: Sequence[WorldDocument]) -> dict[Fact, list[int]]:
    """The indices of the documents that state each fact."""
    indices: dict[Fact, list[int]] = {}
    for index, document in enumerate(docs):
        for fact in document.facts:
            indices.setdefault(fact, []).append(index)
    return indices


def _candidates(world: World, kinds: Collection[str]) -> dict[str, list[_Candidate]]:
    """All questions of these kinds, in the order of KINDS."""
    candidates: dict[str, list[_Candidate]] = {}
    for kind in KINDS:
        if kind not in kinds:
            continue
        if kind == LIST:
            candidates[kind] = _list_candidates(world)
        else:
            candidates[kind] = [_Candidate(kind, chain) for chain in _chains(world, _HOPS[kind])]
    return candidates


def _chains(world: World, hops: int) -> list[tuple[Fact, ...]]:
    """All chains of facts in which each value is the subject of the next fact and no entity comes up twice."""
    if hops == 1:
        return [(fact,) for fact in world.facts]
    chains: list[tuple[Fact, ...]] = []
    for chain in _chains(world, hops - 1):
        subjects = subjects_of(chain)
        for last in world.by_subject.get(chain[-1].value, {}).values():
            if last.value not in subjects:
                chains.append((*chain, last))
    return chains


def _list_candidates(world: World) -> list[_Candidate]:
    candidates = []
    for value, by_relation in world.by_value.items():
        for relation, facts in by_relation.items():
            if RELATIONS[relation].list_questions and 2 <= len(facts) <= _MAX_LIST_ITEMS:
                candidates.append(_Candidate(LIST, tuple(facts), value))
    for subject, table in world.by_subject.items():
        if subject not in world.by_value:  # else other documents may say more about the subject than its own facts
            candidates.append(_Candidate(LIST, tuple(table.values())))
    return candidates


def _write_question(rng: random.Random, candidate: _Candidate, fact_documents: dict[Fact, list[int]]) -> Question:
    first, last = candidate.facts[0], candidate.facts[-1]
    relation = RELATIONS[last.relation]
    answers: tuple[str, ...] = (last.value,)
    if candidate.kind == ONE_HOP:
        text = rng.choice(relation.questions).format(s=first.subject)
    elif candidate.kind in (TWO_HOP, THREE_HOP):
        template = rng.choice(relation.questions)
        text = template.format(s=_chain_phrase(rng, candidate.facts[:-1]))
    elif candidate.value:
        text = rng.choice(relation.list_questions).format(v=candidate.value)
        answers = subjects_of(candidate.facts)
    else:
        text = rng.choice(ABOUT).format(s=first.subject)
        answers = values_of(candidate.facts)
    supports: set[int] = set()
    for fact in candidate.facts:
        supports.update(fact_documents[fact])
    return Question(text, answers, candidate.kind, candidate.facts, tuple(sorted(supports)))


def _chain_phrase(rng: random.Random, facts: Sequence[Fact]) -> str:
    """The entity at the end of a chain, named by the steps to it; only the first may be a genitive ("X's founder")."""
    first, noun = facts[0].subject, RELATIONS[facts[0].relation].noun
    phrase = rng.choice((f"the {noun} of {first}", f"the {noun} of {first}", f"{first}'s {noun}"))
    for fact in facts[1:]:
        phrase = f"the {RELATIONS[fact.relation].noun} of {phrase}"
    return phrase
