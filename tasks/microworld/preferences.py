"""Gold preferences: the right and complete answer to a question, and a wrong one whose fault is known.

Both have the form of a plan-and-solve reply: a plan, one canonical sentence a step, the answer line. A rejected
answer has exactly one fault, and all else in it is true of the world:

- `wrong hop`: a step leads to another entity that the context tells of; from there the answer goes on as it should;
- `missing item`: a list lacks an item, or up to half of them;
- `invented fact`: the last value of a chain, or one item of a list, is of the right kind but stated nowhere.

Faults of form (no answer line, a plan that does not fit, text that breaks off) are left out.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from infra.errors import InputError
from tasks.microworld.phrases import RELATIONS
from tasks.microworld.questions import LIST, ONE_HOP, Question
from tasks.microworld.words import names_of
from tasks.microworld.world import Fact, World

WRONG_HOP, MISSING_ITEM, INVENTED_FACT = FAULTS = ("wrong hop", "missing item", "invented fact")


@dataclass(frozen=True)
class Rejected:
    """A wrong answer and its fault, one of FAULTS."""

    text: str
    fault: str


def chosen_answer(question: Question) -> str:
    """The right and complete answer."""
    return f"Plan: find {question.plan}.\n{question.reasoning}"


def rejected_answer(rng: random.Random, question: Question, world: World, shown: Collection[str]) -> Rejected:
    """An answer with one of the faults that the question allows. `shown`: titles of the context's documents.

    Raises InputError for a world that is too small to be wrong about.
    """
    possible = {LIST: (MISSING_ITEM, INVENTED_FACT), ONE_HOP: (INVENTED_FACT,)}
    faults = possible.get(question.kind, (WRONG_HOP, INVENTED_FACT))
    for fault in rng.sample(faults, len(faults)):
        if fault == MISSING_ITEM:
            wrong: Question | None = _missing_item(rng, question)
        elif fault == WRONG_HOP:
            wrong = _wrong_hop(rng, question, world, shown)
        else:
            wrong = _invented_fact(rng, question, world)
        if wrong:
            return Rejected(chosen_answer(wrong), fault)
    raise InputError(f"the world has too few entities to answer {question.question!r} wrongly: ask for more people")


def _wrong_hop(rng: random.Random, question: Question, world: World, shown: Collection[str]) -> Question | None:
    """One step goes to another entity of the context, and the next steps go on from there."""
    steps = question.facts
    place = rng.randrange(len(steps) - 1)
    avoided = {fact.subject for fact in steps} | {fact.value for fact in steps}
    kind = RELATIONS[steps[place].relation].value_kind
    for other in rng.sample(world.entities[kind], len(world.entities[kind])):
        if other in avoided or other not in shown:
            continue
        chain = [*steps[:place], replace(steps[place], value=other)]
        for step in steps[place + 1 :]:
            chain.append(world.by_subject[chain[-1].value][step.relation])
        if chain[-1].value not in avoided and all(fact.subject in shown for fact in chain):
            return replace(question, facts=tuple(chain), answers=(chain[-1].value,))
    return None


def _missing_item(rng: random.Random, question: Question) -> Question:
    count = len(question.answers)
    kept = sorted(rng.sample(range(count), count - rng.randint(1, count // 2)))
    return replace(
        question,
        facts=tuple(question.facts[each] for each in kept),
        answers=tuple(question.answers[each] for each in kept),
    )


def _invented_fact(rng: random.Random, question: Question, world: World) -> Question | None:
    """The last value of a chain, or one item of a list, becomes another name of its kind."""
    place = rng.randrange(len(question.answers)) if question.kind == LIST else -1
    fact, answer = question.facts[place], question.answers[place]
    relation = RELATIONS[fact.relation]
    of_subject = answer == fact.subject
    kind = relation.subject_kind if of_subject else relation.value_kind
    avoided = {name for each in question.facts for name in (each.subject, each.value)}
    others: Sequence[str] = [name for name in world.entities.get(kind) or names_of(kind) if name not in avoided]
    if not others:
        return None
    name = rng.choice(others)
    facts, answers = list(question.facts), list(question.answers)
    facts[place] = Fact(name, fact.relation, fact.value) if of_subject else replace(fact, value=name)
    answers[place] = name
    return replace(question, facts=tuple(facts), answers=tuple(answers))
