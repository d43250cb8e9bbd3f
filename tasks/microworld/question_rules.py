"""What the rule-based judge replies where questions are written and answered: from texts of the generated world alone.

It writes questions of one fact, of several hops in one document or across two, lists, and questions that the passages
do not answer. The world has no numbers and no time, so it declines the other kinds. Which question it writes depends on
the passages alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from infra.canonical import seeded_random
from tasks.microworld.parsing import kind_of, names_in, read_fact, read_question, sentences
from tasks.microworld.questions import join_words
from tasks.microworld.rules import values_by_hops
from tasks.microworld.words import RELATIONS
from tasks.microworld.world import Fact

NOT_STATED = "[[Not stated]]"
FEWEST_ITEMS = 3


@dataclass(frozen=True)
class StatedFact:
    """A fact, the sentence that states it, and the number of its document."""

    fact: Fact
    sentence: str
    document: int


@dataclass(frozen=True)
class _Question:
    question: str
    answer: str | list[str] = ""
    proof: tuple[str, ...] = ()


def write_question(kind: str, documents: Sequence[str]) -> str:
    """A question of a kind about the documents, as JSON; its question is null where they hold none of that kind."""
    stated = stated_facts(documents)
    candidates = list(_candidates(kind, stated))
    if not candidates:
        return json.dumps({"question": None})
    chosen = seeded_random("question", kind, *documents).choice(candidates)
    if kind == "unanswerable":
        return json.dumps({"question": chosen.question})
    return json.dumps({"question": chosen.question, "answer": chosen.answer, "proof": list(chosen.proof)})


def answer_question(documents: Sequence[str], question: str) -> str:
    """The answer that the documents give, or that they give none."""
    parsed = read_question(question)
    facts = [stated.fact for stated in stated_facts(documents)]
    if parsed is None or parsed.asks_all_values:
        return NOT_STATED
    if parsed.is_list:
        items = []
        for fact in facts:
            if (fact.relation, fact.value) == (parsed.hops[0], parsed.about):
                items.append(fact.subject)
        return join_words(list(dict.fromkeys(items))) if items else NOT_STATED
    values = values_by_hops(parsed.about, parsed.hops, facts)
    return join_words(values) if values else NOT_STATED


def is_self_contained(question: str) -> str:
    """Whether a question names what it is about."""
    return "[[True]]" if read_question(question) is not None and names_in(question) else "[[False]]"


def stated_facts(documents: Sequence[str]) -> list[StatedFact]:
    """The facts of documents, in order, each with its sentence."""
    stated = []
    for number, document in enumerate(documents):
        for sentence in sentences(document):
            fact = read_fact(sentence)
            if fact is not None:
                stated.append(StatedFact(fact, sentence, number))
    return stated


def _candidates(kind: str, stated: Sequence[StatedFact]) -> Iterator[_Question]:
    if kind == "single_fact":
        for one in stated:
            yield _Question(_asked(one.fact.relation, one.fact.subject), one.fact.value, (one.sentence,))
    elif kind in ("multi_hop", "across_documents"):
        yield from _chains(stated, across=kind == "across_documents")
    elif kind == "list":
        yield from _lists(stated)
    elif kind == "unanswerable":
        yield from _unanswered(stated)


def _chains(stated: Sequence[StatedFact], *, across: bool) -> Iterator[_Question]:
    for first in stated:
        for second in stated:
            if first.fact.value != second.fact.subject or second.fact.value == first.fact.subject:
                continue
            if across and first.document == second.document:
                continue
            phrase = f"the {RELATIONS[first.fact.relation].noun} of {first.fact.subject}"
            proof = (first.sentence, second.sentence)
            yield _Question(_asked(second.fact.relation, phrase), second.fact.value, proof)


def _lists(stated: Sequence[StatedFact]) -> Iterator[_Question]:
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for one in stated:
        sentences_by_subject = groups.setdefault((one.fact.relation, one.fact.value), {})
        sentences_by_subject.setdefault(one.fact.subject, one.sentence)
    for (relation, value), by_subject in groups.items():
        templates = RELATIONS[relation].list_questions
        if templates and len(by_subject) >= FEWEST_ITEMS:
            yield _Question(templates[0].format(v=value), list(by_subject), tuple(by_subject.values()))


def _unanswered(stated: Sequence[StatedFact]) -> Iterator[_Question]:
    """Questions on the documents' entities whose answers are not stated."""
    stated_relations = {(one.fact.subject, one.fact.relation) for one in stated}
    entities = dict.fromkeys(name for one in stated for name in (one.fact.subject, one.fact.value))
    for name in entities:
        for relation, about in RELATIONS.items():
            if about.subject_kind == kind_of(name) and (name, relation) not in stated_relations:
                yield _Question(_asked(relation, name))


def _asked(relation: str, subject: str) -> str:
    return RELATIONS[relation].questions[0].format(s=subject)
