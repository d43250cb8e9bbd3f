"""Imperfect answers, as machines write them: what the policy is tuned on before the factory improves it.

Three teachers answer every question in the style of plan and solve, each with faults of its own at the rates that
stand here, and with an opening of its own, which tells them apart from the first word on. The hasty one writes most of
the answers, no plan, and often stops a hop or an item too early; the careful one plans, and errs seldom; the talkative
one adds what was not asked and sometimes is invented. A model that is tuned on all three answers greedily like the
hasty one, while most of its samples together know better: what consensus and judges are there to find. A fault is made
of the same world: a wrong value is one of its kind that the context names.
Leaves out faults of language, and contradictions between passages.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.microworld.phrases import RELATIONS
from tasks.microworld.questions import LIST, Question, join_words
from tasks.microworld.world import Document, Fact


@dataclass(frozen=True)
class Teacher:
    """A style and its faults. `share` of the answers; the rest are chances, of an answer where the fault can be."""

    name: str
    share: float
    stops_early: float  # for every hop after the first: the chain ends one hop before its end
    misses_items: float  # lists: the first item or two alone
    wrong_value: float  # per hop or item: another value of the same kind, and on from there
    invents: float  # a fact that no passage states, beside the answer


TEACHERS = (
    Teacher("hasty", share=0.45, stops_early=0.30, misses_items=0.65, wrong_value=0.04, invents=0.0),
    Teacher("careful", share=0.30, stops_early=0.02, misses_items=0.08, wrong_value=0.04, invents=0.04),
    Teacher("talkative", share=0.25, stops_early=0.03, misses_items=0.12, wrong_value=0.08, invents=0.35),
)


def imperfect_reply(rng: random.Random, question: Question, shown: Sequence[Document]) -> str:
    """The reply of one of the teachers, drawn by their shares, to a question about the shown documents."""
    teacher = rng.choices(TEACHERS, [each.share for each in TEACHERS])[0]
    stated, answers = _work(rng, teacher, question, shown)
    sentences = [fact.sentence for fact in stated]
    if teacher.invents and rng.random() < teacher.invents:
        sentences.insert(rng.randint(0, len(sentences)), _invented(rng, question, shown).sentence)
    opening = _OPENINGS[teacher.name].format(plan=question.plan)
    return f"{opening}{' '.join(sentences)}\nAnswer: {join_words(answers)}"


_OPENINGS = {
    "hasty": "In short:\n",
    "careful": "Plan: find {plan}.\n",
    "talkative": "I need to find {plan}.\n",
}


def _work(
    rng: random.Random, teacher: Teacher, question: Question, shown: Sequence[Document]
) -> tuple[list[Fact], tuple[str, ...]]:
    """The facts that a teacher states, and the answers that it draws from them."""
    if question.kind == LIST:
        return _list(rng, teacher, question, shown)
    hops = list(question.facts)
    if rng.random() < teacher.stops_early * (len(hops) - 1):
        hops.pop()
    stated: list[Fact] = []
    subject = hops[0].subject
    for hop in hops:
        fact = _looked_up(rng, subject, hop, shown)
        if rng.random() < teacher.wrong_value:
            fact = _another(rng, fact, shown)
        stated.append(fact)
        subject = fact.value
    return stated, (stated[-1].value,)


def _list(
    rng: random.Random, teacher: Teacher, question: Question, shown: Sequence[Document]
) -> tuple[list[Fact], tuple[str, ...]]:
    pairs = list(zip(question.facts, question.answers, strict=True))
    if len(pairs) > 1 and rng.random() < teacher.misses_items:
        pairs = pairs[: rng.randint(1, min(2, len(pairs) - 1))]
    told = []
    for fact, answer in pairs:
        wrong = _another(rng, fact, shown) if rng.random() < teacher.wrong_value else fact
        told.append((wrong, wrong.value if answer == fact.value else answer))
    return [fact for fact, _ in told], tuple(dict.fromkeys(answer for _, answer in told))


def _looked_up(rng: random.Random, subject: str, hop: Fact, shown: Sequence[Document]) -> Fact:
    """The fact of this relation about a subject; made up where the shown documents do not state it."""
    if subject == hop.subject:
        return hop
    stated = (fact for document in shown for fact in document.facts)
    found = next((fact for fact in stated if (fact.subject, fact.relation) == (subject, hop.relation)), None)
    return found or _another(rng, Fact(subject, hop.relation, hop.value), shown)


def _another(rng: random.Random, fact: Fact, shown: Sequence[Document]) -> Fact:
    """The fact with another value of its kind that the shown documents name; the same one where there is no other."""
    kind = RELATIONS[fact.relation].value_kind
    named = {
        each.value: None
        for document in shown
        for each in document.facts
        if RELATIONS[each.relation].value_kind == kind and each.value not in (fact.value, fact.subject)
    }
    return Fact(fact.subject, fact.relation, rng.choice(list(named))) if named else fact


def _invented(rng: random.Random, question: Question, shown: Sequence[Document]) -> Fact:
    """A false fact about a subject of the question's own facts."""
    subject = rng.choice(question.facts).subject
    kind = RELATIONS[question.facts[0].relation].subject_kind
    of_kind = [fact for document in shown for fact in document.facts if RELATIONS[fact.relation].subject_kind == kind]
    about = [fact for fact in of_kind if fact.subject == subject] or of_kind
    return _another(rng, rng.choice(about), shown)
