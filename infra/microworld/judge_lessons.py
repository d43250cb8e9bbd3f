"""The calls of a judge as lessons: real prompts over fresh worlds, with the rules' own reply as the label.

A `Scene` is several calls of one kind that begin with the same text (instructions, passages, notes): each call is a
branch that sees that text and itself only, at the positions it would have alone, so that a context is paid for once.
Retrieval is imitated by names: the chunks of a context that hold most of a statement's names, filled up by chance.
The label is what `rule_judge` replies to the very prompt, with one liberty: notes on a question of several hops begin
with the hop that the question begins with, because the others follow from it. Labels follow the rules, so a change of
the rules needs new training. Leaves out Chinese, full prompts, and the judge's other baselines.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from infra.errors import InputError
from infra.microworld import rules
from infra.microworld.answers import another, faulty_answer
from infra.microworld.lessons import context_and_questions, render
from infra.microworld.parsing import Claim, names_in, read_fact, read_facts, read_question
from infra.microworld.phrases import RELATIONS
from infra.microworld.questions import Question
from infra.microworld.rule_judge import judge
from infra.microworld.world import Document, Fact

KINDS = ("helpfulness", "logicality", "completeness", "facts", "support", "supports", "notes")
RATINGS = ("helpfulness", "logicality", "completeness")
CHUNK, NEAREST = 128, 5  # tokens and chunks that the factory shows for a statement
_PART = (128, 256, 256, 256, 512)  # tokens of a part that notes are taken from
_PEOPLE = (16, 24, 40, 60)
_BETWEEN = {"notes": "{question}", "support": "{statement}", "completeness": "{answer}", "supports": "{statements}"}
_STATEMENT = re.compile(r"<statement>(.*?)</statement>")


@dataclass(frozen=True)
class Call:
    """One call: the end of its prompt that is its own, and the reply. `told`: characters [start, end) of that end
    that can be known from the text before them, to be learned on the way."""

    own: str
    reply: str
    told: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Scene:
    """Calls of one kind whose prompts begin with the same text."""

    kind: str
    shared: str
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Desk:
    """What scenes are made with: the terse prompts by kind, the tokenizer that measures chunks, and how many chunks
    are shown for a statement: drawn from these for every scene. `easy`: the share of scenes with as little to read
    as there can be."""

    prompts: Mapping[str, str]
    tokenizer: Any
    nearest: tuple[int, ...] = (NEAREST,)
    easy: float = 0.0


@dataclass(frozen=True)
class _Case:
    """A context with questions on it."""

    shown: tuple[Document, ...]
    text: str
    asked: tuple[Question, ...]


def open_desk(folder: Path, tokenizer: Any) -> Desk:
    """Read `judge-terse-KIND.txt` of a prompt folder for every kind. Raises InputError when one is missing."""
    paths = {kind: folder / f"judge-terse-{kind}.txt" for kind in KINDS}
    if missing := [str(path) for path in paths.values() if not path.is_file()]:
        raise InputError(f"there is no prompt file {missing[0]}: give the folder of a language's prompts")
    return Desk({kind: path.read_text(encoding="utf-8").strip() for kind, path in paths.items()}, tokenizer)


def make_scene(desk: Desk, kind: str, seed: str, calls: int) -> Scene:
    """A scene of up to so many calls; the same seed gives the same scene."""
    rng = random.Random(f"{kind}:{seed}")
    return _MAKERS[kind](desk, rng, calls)


def chunks_of(tokenizer: Any, text: str, size: int) -> list[str]:
    """The text in chunks of `size` tokens, as the factory cuts it."""
    starts = [start for start, _ in tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).offsets]
    borders = [0, *starts[size::size], len(text)]
    return [text[start:end] for start, end in itertools.pairwise(borders)]


def nearest_chunks(rng: random.Random, chunks: Sequence[str], statement: str, count: int) -> list[str]:
    """The chunks that hold most of the statement's names, others by chance, in the order of the document."""
    names = names_in(statement)
    ranks = {place: (-sum(name in chunk for name in names), rng.random()) for place, chunk in enumerate(chunks)}
    return [chunks[place] for place in sorted(sorted(ranks, key=ranks.__getitem__)[:count])]


def in_hop_order(noted: str, question: str) -> str:
    """Notes on a question of several hops, those on the first hop first."""
    asked = read_question(question)
    if asked is None or asked.list or noted == rules.NO_NOTES:
        return noted

    def place(line: str) -> tuple[bool, int]:
        fact = read_fact(line)
        known = fact is not None and fact.relation in asked.hops
        return fact is None or fact.subject != asked.about, asked.hops.index(fact.relation) if fact and known else 0

    return "\n".join(sorted(noted.splitlines(), key=place))


def _case(rng: random.Random, docs: int, questions: int) -> _Case:
    shown, asked = context_and_questions(rng, docs, questions, rng.choice(_PEOPLE))
    return _Case(tuple(shown), render(shown), tuple(asked))


def _scene(desk: Desk, kind: str, shared: Mapping[str, str], owns: Sequence[Mapping[str, str]]) -> Scene:
    """A scene from the values that all calls share and those of each; labels come from the rules."""
    before, mark, after = desk.prompts[kind].partition(_BETWEEN.get(kind, "{question}"))
    begin = _filled(before, shared)
    calls = []
    for own in owns:
        end = _filled(mark + after, {**shared, **own})
        reply = judge(begin + end).text
        calls.append(Call(end, in_hop_order(reply, own["question"]) if kind == "notes" else reply))
    return Scene(kind, begin, tuple(calls))


def _filled(template: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\{([a-z_]+)\}", lambda found: values[found.group(1)], template)


def _about_answers(kind: str) -> Callable[[Desk, random.Random, int], Scene]:
    """Scenes of the kinds that see a question and its answer alone."""

    def make(desk: Desk, rng: random.Random, count: int) -> Scene:
        case = _case(rng, 24, 8)
        owns = []
        for _ in range(count * 2):
            question = rng.choice(case.asked)
            others = [each for each in case.asked if each is not question]
            owns.append({"question": question.question, "answer": faulty_answer(rng, question, others, case.shown)})
        scene = _scene(desk, kind, {}, owns)
        return _evened(rng, scene, count) if kind in RATINGS else replace(scene, calls=scene.calls[:count])

    return make


def _completeness(desk: Desk, rng: random.Random, count: int) -> Scene:
    case = _case(rng, 8 if rng.random() < desk.easy else 20, 4)
    question = rng.choice(case.asked)
    parts = chunks_of(desk.tokenizer, case.text, rng.choice(_PART))
    noted = [in_hop_order(rules.notes(part, question.question), question.question) for part in parts]
    told = [
        f"Part {number} of {len(parts)}:\n{each}"
        for number, each in enumerate(noted, 1)
        if each != rules.NO_NOTES and rng.random() < 0.92
    ]
    shared = {"notes": "\n\n".join(told) or rules.NO_NOTES, "question": question.question}
    others = [each for each in case.asked if each is not question]
    owns = [{"answer": faulty_answer(rng, question, others, case.shown)} for _ in range(count * 2)]
    return _evened(rng, _scene(desk, "completeness", shared, owns), count)


def _notes(desk: Desk, rng: random.Random, count: int) -> Scene:
    """Questions on one part of a context; at most half of them find nothing there."""
    easy = rng.random() < desk.easy
    case = _case(rng, rng.randint(4, 8) if easy else rng.randint(12, 24), count * 2)
    part = rng.choice(chunks_of(desk.tokenizer, case.text, min(_PART) if easy else rng.choice(_PART)))
    scene = _scene(desk, "notes", {"chunk": part}, [{"question": each.question} for each in case.asked])
    empty = [call for call in scene.calls if call.reply == rules.NO_NOTES]
    found = [call for call in scene.calls if call.reply != rules.NO_NOTES]
    kept = [*found[:count], *empty[: max(1, min(len(found), count - len(found)))]]
    return replace(scene, calls=tuple(kept[:count]))


def _support(desk: Desk, rng: random.Random, count: int) -> Scene:
    """Statements on one set of passages, which are those of the first."""
    case = _case(rng, rng.randint(16, 24), 6)
    statement = _claimed(rng, case)
    stated = [fact for document in case.shown for fact in document.facts]
    chunks = chunks_of(desk.tokenizer, case.text, CHUNK)
    shown = 1 if rng.random() < desk.easy else rng.choice(desk.nearest)
    passages = "\n\n".join(each.strip() for each in nearest_chunks(rng, chunks, statement, shown))
    statements = [statement, *(_statement(rng, read_facts(passages), stated) for _ in range(count - 1))]
    scene = _scene(desk, "support", {"passages": passages}, [{"statement": each} for each in statements])
    return replace(scene, calls=tuple(map(_with_told, scene.calls, statements)))


def _supports(desk: Desk, rng: random.Random, _: int) -> Scene:
    """Two or three statements in one call, each with passages of its own."""
    case = _case(rng, rng.randint(16, 24), 6)
    chunks = chunks_of(desk.tokenizer, case.text, CHUNK)
    stated = [fact for document in case.shown for fact in document.facts]
    shown = []
    for number in range(1, rng.randint(2, 3) + 1):
        claimed = rng.random() < 0.5
        statement = _claimed(rng, case) if claimed else _statement(rng, stated, stated)
        passages = "\n\n".join(each.strip() for each in nearest_chunks(rng, chunks, statement, rng.randint(2, 3)))
        shown.append(
            f'<passages number="{number}">\n{passages}\n</passages>\n\n'
            f'<statement number="{number}">\n{statement}\n</statement>'
        )
    return _scene(desk, "supports", {}, [{"statements": "\n\n".join(shown)}])


def _claimed(rng: random.Random, case: _Case) -> str:
    """A statement that some answer makes."""
    question = rng.choice(case.asked)
    listed = rules.facts(question.question, faulty_answer(rng, question, [], case.shown))
    found: list[str] = _STATEMENT.findall(listed)
    return rng.choice(found or [question.facts[0].sentence])


def _statement(rng: random.Random, known: Sequence[Fact], stated: Sequence[Fact]) -> str:
    """A statement on what passages state: true, with another value, or of two hops."""
    fact = rng.choice(known or stated)
    chance = rng.random()
    if chance < 0.45:
        return fact.sentence
    if chance < 0.75:
        rivals = [each.value for each in known if each.relation == fact.relation and each.value != fact.value]
        near = bool(rivals) and rng.random() < 0.7
        return replace(fact, value=rng.choice(rivals) if near else another(rng, fact.value, stated)).sentence
    if chance < 0.85:
        return rng.choice(stated).sentence
    return _two_hops(rng, fact, known, stated)


def _two_hops(rng: random.Random, first: Fact, known: Sequence[Fact], stated: Sequence[Fact]) -> str:
    """A claim by way of another entity: true, or with another end, or from another beginning."""
    onward = [each for each in known if each.subject == first.value] or [
        each for each in stated if each.subject == first.value
    ]
    if not onward:
        return replace(first, value=another(rng, first.value, stated)).sentence
    second = rng.choice(onward)
    chance = rng.random()
    value = another(rng, second.value, stated) if chance < 0.4 else second.value
    subject = another(rng, first.subject, stated) if chance > 0.7 else first.subject
    return Claim(subject, (first.relation, second.relation), value).sentence


def _with_told(call: Call, statement: str) -> Call:
    """The value of a statement that is fully supported can be known before it is read."""
    fact = read_fact(statement)
    if call.reply != rules.FULL or fact is None or not statement.startswith(f"The {RELATIONS[fact.relation].noun} of"):
        return call
    end = len(statement) - 1
    return replace(call, told=(end - len(fact.value) - 1, end))


def _evened(rng: random.Random, scene: Scene, count: int) -> Scene:
    """So many calls, half of them as they come and half with the rarer replies first."""
    calls = list(scene.calls[: count // 2])
    by_reply: dict[str, list[Call]] = {}
    for call in scene.calls[count // 2 :]:
        by_reply.setdefault(call.reply, []).append(call)
    while len(calls) < count and by_reply:
        reply = rng.choice(sorted(by_reply))
        calls.append(by_reply[reply].pop())
        if not by_reply[reply]:
            del by_reply[reply]
    return replace(scene, calls=tuple(calls))


_MAKERS: Mapping[str, Callable[[Desk, random.Random, int], Scene]] = {
    "helpfulness": _about_answers("helpfulness"),
    "logicality": _about_answers("logicality"),
    "facts": _about_answers("facts"),
    "completeness": _completeness,
    "support": _support,
    "supports": _supports,
    "notes": _notes,
}
