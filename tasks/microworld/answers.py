"""Answers to the microworld's questions with the faults that models make: what a judge is trained and measured on.

A `Draft` is an answer before it is written: its plan, the facts of its steps, its final names and its style. It begins
as the gold one; a fault changes it: a wrong value, a wrong hop, a missing or an invented item, a skipped step, two
steps that contradict each other, an answer line that does not follow, an empty or wrong plan, another subject, an
end that breaks off. A third of the answers are the policy's teachers' own. Whether the outcome is wrong, and in whose
eyes, is not said here: `rules` says it of any text. Leaves out wording faults; a text is the templates' own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tasks.microworld.parsing import kind_of
from tasks.microworld.phrases import RELATIONS
from tasks.microworld.questions import LIST, Question, join_words
from tasks.microworld.teachers import imperfect_reply
from tasks.microworld.words import NAMES
from tasks.microworld.world import Document, Fact

STYLES = {"plan_and_solve": 6, "step_by_step": 2, "fact_and_reflection": 1, "direct_answer": 1}  # name: how often
_REFUSALS = ("The text does not say.", "The document does not say this.", "Nothing is known about {about}.")


@dataclass(frozen=True)
class Draft:
    """An answer before it is written. An empty `final` writes no answer line; `plan` is text after "find"."""

    style: str
    plan: str
    facts: tuple[Fact, ...]
    final: tuple[str, ...]

    @property
    def text(self) -> str:
        """The answer as a model would write it, in its style."""
        if self.style == "direct_answer" and self.final:
            return join_words(self.final)
        steps = " ".join(fact.sentence for fact in self.facts)
        plan = f"Plan: find {self.plan}." if self.plan else "Plan:"
        head = {
            "plan_and_solve": [plan, steps],
            "fact_and_reflection": [f"Facts: {steps}", "Reflection: nothing is missing."],
        }.get(self.style, [steps])
        end = [f"Answer: {join_words(self.final)}"] if self.final else []
        return "\n".join(line for line in (*head, *end) if line)


Fault = Callable[[random.Random, Draft, Sequence[Fact]], Draft]  # the facts: all that the context states


def gold_draft(question: Question, style: str) -> Draft:
    """The right answer in a style."""
    return Draft(style, question.plan, question.facts, question.answers)


def faulty_answer(rng: random.Random, question: Question, others: Sequence[Question], shown: Sequence[Document]) -> str:
    """An answer to the question: a teacher's, or one with no fault, one or two. `others`: to answer by mistake."""
    chance = rng.random()
    if chance < 0.35:
        return imperfect_reply(rng, question, shown)
    if chance < 0.38:
        return rng.choice(_REFUSALS).format(about=question.facts[0].subject)
    style = rng.choices(list(STYLES), list(STYLES.values()))[0]
    if chance < 0.44 and others:
        return gold_draft(rng.choice(others), style).text
    stated = [fact for document in shown for fact in document.facts]
    draft = gold_draft(question, style)
    faults = LIST_FAULTS if question.kind == LIST else HOP_FAULTS
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        draft = rng.choice(faults)(rng, draft, stated)
    return _broken_off(rng, draft.text) if rng.random() < 0.06 else draft.text


def another(rng: random.Random, name: str, stated: Sequence[Fact]) -> str:
    """Another name of the same kind: mostly one that the context holds, now and then an invented one."""
    kind = kind_of(name) or "person"
    near = {each for fact in stated for each in (fact.subject, fact.value) if each != name and kind_of(each) == kind}
    if near and rng.random() < 0.8:
        return rng.choice(sorted(near))
    return rng.choice([each for each in NAMES[kind] if each != name])


def _about(stated: Sequence[Fact], subject: str) -> dict[str, Fact]:
    """What the context states of a subject, by relation."""
    return {fact.relation: fact for fact in stated if fact.subject == subject}


def _mistaken(rng: random.Random, draft: Draft, stated: Sequence[Fact]) -> tuple[int, Fact]:
    """One of the draft's steps by its place, and that step with another value."""
    place = rng.randrange(len(draft.facts))
    fact = draft.facts[place]
    return place, replace(fact, value=another(rng, fact.value, stated))


def _wrong_value(rng: random.Random, draft: Draft, stated: Sequence[Fact]) -> Draft:
    """One step states another value; what follows goes by it only where it is the last."""
    if not draft.facts:
        return draft
    place, wrong = _mistaken(rng, draft, stated)
    facts = (*draft.facts[:place], wrong, *draft.facts[place + 1 :])
    return replace(draft, facts=facts, final=_swapped(draft.final, draft.facts[place].value, wrong.value))


def _wrong_hop(rng: random.Random, draft: Draft, stated: Sequence[Fact]) -> Draft:
    """From a wrong step on, every step is what the context says of the wrong entity."""
    if not draft.facts:
        return draft
    first = draft.facts[0]
    wrong = replace(first, value=another(rng, first.value, stated))
    if len(draft.facts) == 1:
        subject = another(rng, first.subject, stated)
        wrong = _about(stated, subject).get(first.relation, wrong)
    facts = [wrong]
    for fact in draft.facts[1:]:
        facts.append(_about(stated, facts[-1].value).get(fact.relation, fact))
    return replace(draft, facts=tuple(facts), final=_swapped(draft.final, draft.facts[-1].value, facts[-1].value))


def _other_relation(rng: random.Random, draft: Draft, stated: Sequence[Fact]) -> Draft:
    """The last step tells something else of its subject."""
    if not draft.facts:
        return draft
    last = draft.facts[-1]
    known = [fact for fact in _about(stated, last.subject).values() if fact.relation != last.relation]
    fact = rng.choice(known or [last])
    return replace(draft, facts=(*draft.facts[:-1], fact), final=_swapped(draft.final, last.value, fact.value))


def _missing_item(rng: random.Random, draft: Draft, stated: Sequence[Fact]) -> Draft:
    """Some items of a list are left out, or are left out of the answer line alone."""
    count = len(draft.final)
    if count < 2 or len(draft.facts) != count:
        return _skipped_step(rng, draft, stated)
    kept = sorted(rng.sample(range(count), rng.randint(1, count - 1)))
    final = tuple(draft.final[place] for place in kept)
    facts = draft.facts if rng.random() < 0.3 else tuple(draft.facts[place] for place in kept)
    return replace(draft, facts=facts, final=final)


def _invented_item(rng: random.Random, draft: Draft, stated: Sequence[Fact]) -> Draft:
    """An item more than there is."""
    if not draft.facts or not draft.final:
        return draft
    last = draft.facts[-1]
    asked_for_subjects = draft.final[-1] == last.subject
    name = another(rng, draft.final[-1], stated)
    fact = replace(last, subject=name) if asked_for_subjects else replace(last, value=name)
    facts = draft.facts if rng.random() < 0.2 else (*draft.facts, fact)
    return replace(draft, facts=facts, final=(*draft.final, name))


def _skipped_step(rng: random.Random, draft: Draft, _: Sequence[Fact]) -> Draft:
    if not draft.facts:
        return draft
    place = rng.randrange(len(draft.facts))
    return replace(draft, facts=(*draft.facts[:place], *draft.facts[place + 1 :]))


def _no_steps(_: random.Random, draft: Draft, __: Sequence[Fact]) -> Draft:
    return replace(draft, facts=())


def _does_not_follow(rng: random.Random, draft: Draft, stated: Sequence[Fact]) -> Draft:
    """The answer line names another of the same kind, or anything."""
    if not draft.final:
        return draft
    place = rng.randrange(len(draft.final))
    kind = rng.choice(list(NAMES))
    name = another(rng, draft.final[place], stated) if rng.random() < 0.7 else rng.choice(NAMES[kind])
    return replace(draft, final=(*draft.final[:place], name, *draft.final[place + 1 :]))


def _contradiction(rng: random.Random, draft: Draft, stated: Sequence[Fact]) -> Draft:
    """A step, and the same step with another value after it."""
    if not draft.facts:
        return draft
    place, wrong = _mistaken(rng, draft, stated)
    return replace(draft, facts=(*draft.facts[: place + 1], wrong, *draft.facts[place + 1 :]))


def _repeated(rng: random.Random, draft: Draft, _: Sequence[Fact]) -> Draft:
    """A step or a final name is said twice."""
    if draft.facts and rng.random() < 0.7:
        place = rng.randrange(len(draft.facts))
        return replace(draft, facts=(*draft.facts[: place + 1], draft.facts[place], *draft.facts[place + 1 :]))
    return replace(draft, final=(*draft.final, rng.choice(draft.final))) if draft.final else draft


def _wrong_plan(rng: random.Random, draft: Draft, _: Sequence[Fact]) -> Draft:
    """No plan, or one with other hops."""
    nouns = rng.sample([relation.noun for relation in RELATIONS.values()], rng.randint(1, 2))
    plan = "" if rng.random() < 0.3 else " and then ".join(f"the {noun}" for noun in nouns)
    return replace(draft, plan=plan, style="plan_and_solve")


def _no_answer_line(_: random.Random, draft: Draft, __: Sequence[Fact]) -> Draft:
    return replace(draft, final=())


def _broken_off(rng: random.Random, text: str) -> str:
    """The text without its last words."""
    words = text.split(" ")
    return " ".join(words[: max(1, len(words) - rng.randint(1, 6))])


def _swapped(names: tuple[str, ...], old: str, new: str) -> tuple[str, ...]:
    return tuple(new if name == old else name for name in names)


_COMMON: tuple[Fault, ...] = (
    _wrong_value,
    _wrong_value,
    _skipped_step,
    _no_steps,
    _does_not_follow,
    _contradiction,
    _repeated,
    _wrong_plan,
    _no_answer_line,
)
HOP_FAULTS: tuple[Fault, ...] = (*_COMMON, _wrong_hop, _wrong_hop, _wrong_hop, _other_relation)
LIST_FAULTS: tuple[Fault, ...] = (*_COMMON, _missing_item, _missing_item, _missing_item, _invented_item, _invented_item)
