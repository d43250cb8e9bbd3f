"""Right and wrong answers to the questions of the microworld: for preferences, for the policy and for the judge.

- `chosen_answer` and `rejected_answer` are a gold preference: a right answer, and one with exactly one known fault (a
  wrong hop, a missing item or an invented fact). Both have the form of plan-and-solve; faults of form are left out.
- `imperfect_reply` is what the policy is tuned on. Three teachers answer with faults at the rates of TEACHERS, each
  with an opening of its own. The hasty teacher writes most of the answers and often stops a hop or an item too early;
  the careful one makes few mistakes; the talkative one adds facts that were not asked for and may be invented. A model
  that is tuned on all three gives the hasty answer greedily, while most of its samples together are right: that is
  what consensus and judges are there to find.
- `faulty_answer` is what the judge is trained and measured on. A `Draft` (plan, facts, final names, style) begins as
  the gold answer and gets zero to two faults; some answers are a teacher's, a refusal, or the answer to another
  question. Whether such an answer is wrong is not stated here: `rules` decides that for any text.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from infra.errors import InputError
from tasks.microworld.parsing import kind_of
from tasks.microworld.questions import LIST, ONE_HOP, Question, join_words
from tasks.microworld.words import NAMES, RELATIONS, names_of
from tasks.microworld.world import Fact, World, WorldDocument, entities_of, facts_about, sentences_of, stated_facts

WRONG_HOP, MISSING_ITEM, INVENTED_FACT = FAULTS = ("wrong hop", "missing item", "invented fact")
STYLES = {"plan_and_solve": 6, "step_by_step": 2, "fact_and_reflection": 1, "direct_answer": 1}  # name: weight
_REFUSALS = ("The text does not say.", "The document does not say this.", "Nothing is known about {about}.")


@dataclass(frozen=True)
class RejectedAnswer:
    """A wrong answer and its fault, one of FAULTS."""

    text: str
    fault: str


@dataclass(frozen=True)
class Teacher:
    """A style of answers with its faults. `share`: of all answers. The others are chances, where the fault can be."""

    name: str
    opening: str
    share: float
    stops_early: float  # for every hop after the first: the chain ends one hop before its end
    misses_items: float  # lists: only the first one or two items
    wrong_value: float  # for each hop or item: another value of the same kind; later hops go on from there
    invents: float  # a fact that no document states, beside the answer


TEACHERS = (
    Teacher(
        "hasty",
        opening="In short:\n",
        share=0.45,
        stops_early=0.30,
        misses_items=0.65,
        wrong_value=0.04,
        invents=0.0,
    ),
    Teacher(
        "careful",
        opening="Plan: find {plan}.\n",
        share=0.30,
        stops_early=0.02,
        misses_items=0.08,
        wrong_value=0.04,
        invents=0.04,
    ),
    Teacher(
        "talkative",
        opening="I need to find {plan}.\n",
        share=0.25,
        stops_early=0.03,
        misses_items=0.12,
        wrong_value=0.08,
        invents=0.35,
    ),
)


@dataclass(frozen=True)
class AnswerDraft:
    """An answer before it is written. Without `final` there is no answer line; `plan` is the text after "find"."""

    style: str
    plan: str
    facts: tuple[Fact, ...]
    final: tuple[str, ...]

    @property
    def text(self) -> str:
        """The answer as a model would write it in this style."""
        if self.style == "direct_answer" and self.final:
            return join_words(self.final)
        lines = []
        sentences = " ".join(sentences_of(self.facts))
        if self.style == "plan_and_solve":
            lines += [f"Plan: find {self.plan}." if self.plan else "Plan:", sentences]
        elif self.style == "fact_and_reflection":
            lines += [f"Facts: {sentences}", "Reflection: nothing is missing."]
        else:
            lines.append(sentences)
        if self.final:
            lines.append(f"Answer: {join_words(self.final)}")
        return "\n".join(filter(None, lines))


Fault = Callable[[random.Random, AnswerDraft, Sequence[Fact]], AnswerDraft]  # the facts: all that the context states


# Gold preferences


def chosen_answer(question: Question) -> str:
    """The right and complete answer."""
    return f"Plan: find {question.plan}.\n{question.reasoning}"


def rejected_answer(rng: random.Random, question: Question, world: World, titles: Collection[str]) -> RejectedAnswer:
    """An answer with one of the faults that the question allows. `titles`: of the documents in the context.

    Raises InputError for a world that is too small for a wrong answer.
    """
    possible = {LIST: (MISSING_ITEM, INVENTED_FACT), ONE_HOP: (INVENTED_FACT,)}
    faults = possible.get(question.kind, (WRONG_HOP, INVENTED_FACT))
    for fault in rng.sample(faults, len(faults)):
        if fault == MISSING_ITEM:
            wrong: Question | None = _with_missing_items(rng, question)
        elif fault == WRONG_HOP:
            wrong = _with_wrong_hop(rng, question, world, titles)
        else:
            wrong = _with_invented_fact(rng, question, world)
        if wrong:
            return RejectedAnswer(chosen_answer(wrong), fault)
    raise InputError(f"the world has too few entities to answer {question.question!r} wrongly: ask for more people")


def _with_wrong_hop(rng: random.Random, question: Question, world: World, titles: Collection[str]) -> Question | None:
    """One step leads to another entity of the context, and the next steps go on from there."""
    steps = question.facts
    position = rng.randrange(len(steps) - 1)
    excluded = entities_of(steps)
    kind = RELATIONS[steps[position].relation].value_kind
    for other in rng.sample(world.entities[kind], len(world.entities[kind])):
        if other in excluded or other not in titles:
            continue
        chain = [*steps[:position], replace(steps[position], value=other)]
        for step in steps[position + 1 :]:
            chain.append(world.by_subject[chain[-1].value][step.relation])
        if chain[-1].value not in excluded and all(fact.subject in titles for fact in chain):
            return replace(question, facts=tuple(chain), answers=(chain[-1].value,))
    return None


def _with_missing_items(rng: random.Random, question: Question) -> Question:
    """A list without one item or up to half of them."""
    count = len(question.answers)
    facts, answers = [], []
    for index in sorted(rng.sample(range(count), count - rng.randint(1, count // 2))):
        facts.append(question.facts[index])
        answers.append(question.answers[index])
    return replace(question, facts=tuple(facts), answers=tuple(answers))


def _with_invented_fact(rng: random.Random, question: Question, world: World) -> Question | None:
    """The last value of a chain, or one item of a list, becomes another name of its kind."""
    position = rng.randrange(len(question.answers)) if question.kind == LIST else -1
    fact, answer = question.facts[position], question.answers[position]
    relation = RELATIONS[fact.relation]
    answer_is_subject = answer == fact.subject
    kind = relation.subject_kind if answer_is_subject else relation.value_kind
    excluded = entities_of(question.facts)
    names = world.entities.get(kind) or names_of(kind)
    others = [name for name in names if name not in excluded]
    if not others:
        return None
    name = rng.choice(others)
    facts, answers = list(question.facts), list(question.answers)
    facts[position] = replace(fact, subject=name) if answer_is_subject else replace(fact, value=name)
    answers[position] = name
    return replace(question, facts=tuple(facts), answers=tuple(answers))


# The answers of the teachers


def imperfect_reply(rng: random.Random, question: Question, docs: Sequence[WorldDocument]) -> str:
    """The answer of one of the teachers, drawn by their shares, to a question about the documents of a context."""
    teacher = rng.choices(TEACHERS, [teacher.share for teacher in TEACHERS])[0]
    facts, answers = _teacher_facts(rng, teacher, question, docs)
    sentences = sentences_of(facts)
    if teacher.invents and rng.random() < teacher.invents:
        position = rng.randint(0, len(sentences))
        sentences.insert(position, _invented_fact(rng, question, docs).sentence)
    opening = teacher.opening.format(plan=question.plan)
    return f"{opening}{' '.join(sentences)}\nAnswer: {join_words(answers)}"


def _teacher_facts(
    rng: random.Random, teacher: Teacher, question: Question, docs: Sequence[WorldDocument]
) -> tuple[list[Fact], tuple[str, ...]]:
    """The facts that a teacher states, and the answers that it draws from them."""
    if question.kind == LIST:
        return _teacher_list(rng, teacher, question, docs)
    hops = list(question.facts)
    if rng.random() < teacher.stops_early * (len(hops) - 1):
        hops.pop()
    facts: list[Fact] = []
    subject = hops[0].subject
    for hop in hops:
        fact = _fact_about(rng, subject, hop, docs)
        if rng.random() < teacher.wrong_value:
            fact = _with_other_value(rng, fact, docs)
        facts.append(fact)
        subject = fact.value
    return facts, (facts[-1].value,)


def _teacher_list(
    rng: random.Random, teacher: Teacher, question: Question, docs: Sequence[WorldDocument]
) -> tuple[list[Fact], tuple[str, ...]]:
    items = list(zip(question.facts, question.answers, strict=True))
    if len(items) > 1 and rng.random() < teacher.misses_items:
        items = items[: rng.randint(1, min(2, len(items) - 1))]
    facts: list[Fact] = []
    answers: list[str] = []
    for fact, answer in items:
        stated = _with_other_value(rng, fact, docs) if rng.random() < teacher.wrong_value else fact
        facts.append(stated)
        answers.append(stated.value if answer == fact.value else answer)
    return facts, tuple(dict.fromkeys(answers))


def _fact_about(rng: random.Random, subject: str, hop: Fact, docs: Sequence[WorldDocument]) -> Fact:
    """The fact of this hop's relation about a subject; invented where the documents do not state it."""
    if subject == hop.subject:
        return hop
    for fact in stated_facts(docs):
        if (fact.subject, fact.relation) == (subject, hop.relation):
            return fact
    return _with_other_value(rng, Fact(subject, hop.relation, hop.value), docs)


def _with_other_value(rng: random.Random, fact: Fact, docs: Sequence[WorldDocument]) -> Fact:
    """The fact with another value of its kind that the documents name; the same fact where there is no other value."""
    kind = RELATIONS[fact.relation].value_kind
    values: dict[str, None] = {}  # in reading order
    for stated in stated_facts(docs):
        if RELATIONS[stated.relation].value_kind == kind and stated.value not in (fact.value, fact.subject):
            values[stated.value] = None
    return replace(fact, value=rng.choice(list(values))) if values else fact


def _invented_fact(rng: random.Random, question: Question, docs: Sequence[WorldDocument]) -> Fact:
    """A false fact about a subject of the question's own facts."""
    subject = rng.choice(question.facts).subject
    kind = RELATIONS[question.facts[0].relation].subject_kind
    of_kind = []
    for fact in stated_facts(docs):
        if RELATIONS[fact.relation].subject_kind == kind:
            of_kind.append(fact)
    return _with_other_value(rng, rng.choice(facts_about(subject, of_kind) or of_kind), docs)


# The answers that the judge is trained on


def gold_draft(question: Question, style: str) -> AnswerDraft:
    """The right answer in a style."""
    return AnswerDraft(style, question.plan, question.facts, question.answers)


def faulty_answer(
    rng: random.Random, question: Question, other_questions: Sequence[Question], docs: Sequence[WorldDocument]
) -> str:
    """An answer with no fault, one or two; or a teacher's, a refusal, or the answer to one of `other_questions`."""
    chance = rng.random()
    if chance < 0.35:
        return imperfect_reply(rng, question, docs)
    if chance < 0.38:
        return rng.choice(_REFUSALS).format(about=question.facts[0].subject)
    style = rng.choices(list(STYLES), list(STYLES.values()))[0]
    if chance < 0.44 and other_questions:
        return gold_draft(rng.choice(other_questions), style).text
    stated = stated_facts(docs)
    draft = gold_draft(question, style)
    faults = LIST_FAULTS if question.kind == LIST else HOP_FAULTS
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        draft = rng.choice(faults)(rng, draft, stated)
    return _cut_off(rng, draft.text) if rng.random() < 0.06 else draft.text


def other_name(rng: random.Random, name: str, stated: Sequence[Fact]) -> str:
    """Another name of the same kind: four times in five one of the context, else any name of the world's language."""
    kind = kind_of(name) or "person"
    in_context = set()
    for other in entities_of(stated):
        if other != name and kind_of(other) == kind:
            in_context.add(other)
    if in_context and rng.random() < 0.8:
        return rng.choice(sorted(in_context))
    return rng.choice([other for other in NAMES[kind] if other != name])


def _by_relation(stated: Sequence[Fact], subject: str) -> dict[str, Fact]:
    """What the context states of a subject, by relation."""
    by_relation = {}
    for fact in facts_about(subject, stated):
        by_relation[fact.relation] = fact
    return by_relation


def _false_step(rng: random.Random, draft: AnswerDraft, stated: Sequence[Fact]) -> tuple[int, Fact]:
    """The position of one of the draft's steps, and that step with another value."""
    position = rng.randrange(len(draft.facts))
    fact = draft.facts[position]
    return position, replace(fact, value=other_name(rng, fact.value, stated))


def _wrong_value(rng: random.Random, draft: AnswerDraft, stated: Sequence[Fact]) -> AnswerDraft:
    """One step states another value; the answer changes only if that step is its source."""
    if not draft.facts:
        return draft
    position, wrong = _false_step(rng, draft, stated)
    facts = (*draft.facts[:position], wrong, *draft.facts[position + 1 :])
    return replace(draft, facts=facts, final=_replaced(draft.final, draft.facts[position].value, wrong.value))


def _wrong_hop(rng: random.Random, draft: AnswerDraft, stated: Sequence[Fact]) -> AnswerDraft:
    """The first step is wrong; every later step is what the context states of the wrong entity."""
    if not draft.facts:
        return draft
    first = draft.facts[0]
    wrong = replace(first, value=other_name(rng, first.value, stated))
    if len(draft.facts) == 1:
        subject = other_name(rng, first.subject, stated)
        wrong = _by_relation(stated, subject).get(first.relation, wrong)
    facts = [wrong]
    for fact in draft.facts[1:]:
        facts.append(_by_relation(stated, facts[-1].value).get(fact.relation, fact))
    return replace(draft, facts=tuple(facts), final=_replaced(draft.final, draft.facts[-1].value, facts[-1].value))


def _other_relation(rng: random.Random, draft: AnswerDraft, stated: Sequence[Fact]) -> AnswerDraft:
    """The last step states another relation of its subject."""
    if not draft.facts:
        return draft
    last = draft.facts[-1]
    others = _by_relation(stated, last.subject)
    others.pop(last.relation, None)
    fact = rng.choice(list(others.values()) or [last])
    return replace(draft, facts=(*draft.facts[:-1], fact), final=_replaced(draft.final, last.value, fact.value))


def _missing_item(rng: random.Random, draft: AnswerDraft, stated: Sequence[Fact]) -> AnswerDraft:
    """Some items of a list are missing, now and then only in the answer line."""
    count = len(draft.final)
    if count < 2 or len(draft.facts) != count:
        return _skipped_step(rng, draft, stated)
    facts, final = [], []
    for index in sorted(rng.sample(range(count), rng.randint(1, count - 1))):
        facts.append(draft.facts[index])
        final.append(draft.final[index])
    return replace(draft, facts=draft.facts if rng.random() < 0.3 else tuple(facts), final=tuple(final))


def _invented_item(rng: random.Random, draft: AnswerDraft, stated: Sequence[Fact]) -> AnswerDraft:
    """One item too many."""
    if not draft.facts or not draft.final:
        return draft
    last = draft.facts[-1]
    answer_is_subject = draft.final[-1] == last.subject
    name = other_name(rng, draft.final[-1], stated)
    fact = replace(last, subject=name) if answer_is_subject else replace(last, value=name)
    facts = draft.facts if rng.random() < 0.2 else (*draft.facts, fact)
    return replace(draft, facts=facts, final=(*draft.final, name))


def _skipped_step(rng: random.Random, draft: AnswerDraft, _: Sequence[Fact]) -> AnswerDraft:
    if not draft.facts:
        return draft
    position = rng.randrange(len(draft.facts))
    return replace(draft, facts=(*draft.facts[:position], *draft.facts[position + 1 :]))


def _no_steps(_: random.Random, draft: AnswerDraft, __: Sequence[Fact]) -> AnswerDraft:
    return replace(draft, facts=())


def _does_not_follow(rng: random.Random, draft: AnswerDraft, stated: Sequence[Fact]) -> AnswerDraft:
    """The answer line has another name, mostly of the same kind."""
    if not draft.final:
        return draft
    position = rng.randrange(len(draft.final))
    kind = rng.choice(list(NAMES))
    name = other_name(rng, draft.final[position], stated) if rng.random() < 0.7 else rng.choice(NAMES[kind])
    return replace(draft, final=(*draft.final[:position], name, *draft.final[position + 1 :]))


def _contradiction(rng: random.Random, draft: AnswerDraft, stated: Sequence[Fact]) -> AnswerDraft:
    """A step, followed by the same step with another value."""
    if not draft.facts:
        return draft
    position, wrong = _false_step(rng, draft, stated)
    return replace(draft, facts=(*draft.facts[: position + 1], wrong, *draft.facts[position + 1 :]))


def _repeated(rng: random.Random, draft: AnswerDraft, _: Sequence[Fact]) -> AnswerDraft:
    """A step or a final name stands twice."""
    if draft.facts and rng.random() < 0.7:
        position = rng.randrange(len(draft.facts))
        facts = (*draft.facts[: position + 1], draft.facts[position], *draft.facts[position + 1 :])
        return replace(draft, facts=facts)
    return replace(draft, final=(*draft.final, rng.choice(draft.final))) if draft.final else draft


def _wrong_plan(rng: random.Random, draft: AnswerDraft, _: Sequence[Fact]) -> AnswerDraft:
    """No plan, or one with other hops."""
    nouns = rng.sample([relation.noun for relation in RELATIONS.values()], rng.randint(1, 2))
    plan = "" if rng.random() < 0.3 else "the " + " and then the ".join(nouns)
    return replace(draft, plan=plan, style="plan_and_solve")


def _no_answer_line(_: random.Random, draft: AnswerDraft, __: Sequence[Fact]) -> AnswerDraft:
    return replace(draft, final=())


def _cut_off(rng: random.Random, text: str) -> str:
    """The text without its last words."""
    words = text.split(" ")
    return " ".join(words[: max(1, len(words) - rng.randint(1, 6))])


def _replaced(names: tuple[str, ...], old: str, new: str) -> tuple[str, ...]:
    replaced = []
    for name in names:
        replaced.append(new if name == old else name)
    return tuple(replaced)


# A fault that stands several times is drawn more often.
_COMMON_FAULTS: tuple[Fault, ...] = (
    *(_wrong_value, _wrong_value),
    *(_skipped_step, _no_steps, _does_not_follow, _contradiction, _repeated, _wrong_plan, _no_answer_line),
)
HOP_FAULTS: tuple[Fault, ...] = (*_COMMON_FAULTS, _wrong_hop, _wrong_hop, _wrong_hop, _other_relation)
LIST_FAULTS: tuple[Fault, ...] = (*_COMMON_FAULTS, *(_missing_item,) * 3, *(_invented_item,) * 2)
