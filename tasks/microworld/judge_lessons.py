"""The calls of a judge as lessons: real prompts over fresh worlds, with the rules' own reply as the label.

A `Scene` is several calls of one kind that begin with the same text (instructions, passages, notes): each call is a
branch that sees that text and itself only, at the positions it would have alone, so that a context is paid for once.
Retrieval is imitated by names: the chunks of a context that hold most of a statement's names, filled up by chance.
The label is what `rule_judge` replies to the very prompt, but for notes, whose truth is `rules.chained_notes`. Labels
follow the rules, so a change of the rules needs new training. A verdict at the end of a reply is too faint a signal to
learn comparing from: a call also tells what can be known while it is read (`Call.told`).
Leaves out Chinese, full prompts, and of the judge's baselines those that see a document or two answers.
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
from tasks.microworld import rules
from tasks.microworld.answers import another, faulty_answer
from tasks.microworld.lessons import context_and_questions, render
from tasks.microworld.parsing import Claim, names_in, read_claim, read_facts, read_question, sentences
from tasks.microworld.questions import Question
from tasks.microworld.rule_judge import judge
from tasks.microworld.world import Document, Fact

KINDS = ("helpfulness", "logicality", "quality", "completeness", "facts", "support", "supports", "notes")
RATINGS = ("helpfulness", "logicality", "quality", "completeness")
CHUNK, NEAREST = 128, 5  # tokens and chunks that the factory shows for a statement
_PART = (128, 256, 256, 512, 512)  # tokens of a part that notes are taken from
_PEOPLE = (16, 24, 40, 60)
_BETWEEN = {"notes": "{question}", "support": "{statement}", "completeness": "{answer}", "supports": "{statements}"}
_STATEMENT = re.compile(r"<statement>(.*?)</statement>")
_STATED, _VERDICT = 1.0, 1.0  # what they weigh, where a verdict of a reply weighs 2
_FINAL = re.compile(r"\nAnswer: (\w+)\n</answer>")


@dataclass(frozen=True)
class Call:
    """One call: the end of its prompt that is its own, and the reply. `told`: what is to be foreseen on the way, though
    the prompt may say otherwise: the character of that end where a word begins, and the word that the text before it
    makes true there."""

    own: str
    reply: str
    told: tuple[tuple[int, str, float], ...] = ()


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
    as there can be. `even`: most ratings are drawn so that each comes as often as another, not as answers come."""

    prompts: Mapping[str, str]
    tokenizer: Any
    nearest: tuple[int, ...] = (NEAREST,)
    easy: float = 0.0
    even: bool = False


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


def _case(rng: random.Random, docs: int, questions: int) -> _Case:
    shown, asked = context_and_questions(rng, docs, questions, rng.choice(_PEOPLE))
    return _Case(tuple(shown), render(shown), tuple(asked))


def _scene(
    desk: Desk, kind: str, shared: Mapping[str, str], owns: Sequence[Mapping[str, str]], known: str | None = None
) -> Scene:
    """A scene from the values that all calls share and those of each; labels come from the rules. `known`: the text
    that says what is true of the calls' statements; with none, they are held against what stands before them."""
    before, mark, after = desk.prompts[kind].partition(_BETWEEN.get(kind, "{question}"))
    begin = _filled(before, shared)
    calls = []
    for own in owns:
        values = {**shared, **own}
        end = _filled(mark + after, values)
        reply = rules.chained_notes(values["chunk"], values["question"]) if kind == "notes" else judge(begin + end).text
        told = _told(end, values.get("question", ""), known)
        calls.append(Call(end, reply, told))
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
        return _chosen(desk, rng, _scene(desk, kind, {}, owns), count)

    return make


def _completeness(desk: Desk, rng: random.Random, count: int) -> Scene:
    case = _case(rng, 8 if rng.random() < desk.easy else 20, 4)
    question = rng.choice(case.asked)
    parts = chunks_of(desk.tokenizer, case.text, rng.choice(_PART))
    noted = [rules.chained_notes(part, question.question) for part in parts]
    told = [
        f"Part {number} of {len(parts)}:\n{each}"
        for number, each in enumerate(noted, 1)
        if each != rules.NO_NOTES and rng.random() < 0.92
    ]
    shared = {"notes": "\n\n".join(told) or rules.NO_NOTES, "question": question.question}
    others = [each for each in case.asked if each is not question]
    owns = [{"answer": faulty_answer(rng, question, others, case.shown)} for _ in range(count * 2)]
    return _chosen(desk, rng, _scene(desk, "completeness", shared, owns, shared["notes"]), count)


def _notes(desk: Desk, rng: random.Random, count: int) -> Scene:
    """Questions on one part of a context; a third of them find nothing there, half where few find something."""
    easy = rng.random() < desk.easy
    case = _case(rng, rng.randint(4, 8) if easy else rng.randint(12, 24), count * 2)
    part = rng.choice(chunks_of(desk.tokenizer, case.text, min(_PART) if easy else rng.choice(_PART)))
    scene = _scene(desk, "notes", {"chunk": part}, [{"question": each.question} for each in case.asked])
    empty = [call for call in scene.calls if call.reply == rules.NO_NOTES]
    found = [call for call in scene.calls if call.reply != rules.NO_NOTES]
    without = empty[: min(max(count // 3, count - len(found)), max(1, len(found)))]
    return replace(scene, calls=(*found[: count - len(without)], *without))


def _support(desk: Desk, rng: random.Random, count: int) -> Scene:
    """Statements on one set of passages, which are those of the first."""
    case = _case(rng, rng.randint(16, 24), 6)
    statement = _claimed(rng, case)
    stated = [fact for document in case.shown for fact in document.facts]
    chunks = chunks_of(desk.tokenizer, case.text, CHUNK)
    shown = 1 if rng.random() < desk.easy else rng.choice(desk.nearest)
    passages = "\n\n".join(each.strip() for each in nearest_chunks(rng, chunks, statement, shown))
    statements = [statement, *(_statement(rng, read_facts(passages), stated) for _ in range(count - 1))]
    return _scene(desk, "support", {"passages": passages}, [{"statement": each} for each in statements], passages)


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


def _told(text: str, question: str, known: str | None) -> tuple[tuple[int, str, float], ...]:
    """For each statement in a text: the value that is known, and once it is read the verdict on it; for an answer line
    with one name likewise. With no `known` text, it is what stands before the statement."""
    found: list[tuple[int, str, float]] = []
    place = 0
    for sentence in sentences(text):
        place = text.index(sentence, place)
        claim = read_claim(sentence)
        if claim is not None and sentence.endswith(claim.sentence):
            before = text[max(0, text.rfind("<passages", 0, place)) : place]
            found += _foreseen(place + len(sentence) - 1, claim, known, before)
    asked, final = read_question(question), _FINAL.search(text)
    if asked is not None and not asked.list and final is not None:
        claim = Claim(asked.about, asked.hops, final.group(1))
        found += _foreseen(final.end(1), claim, known, text[: final.start()])
    return tuple(found)


def _foreseen(end: int, claim: Claim, known: str | None, before: str) -> list[tuple[int, str, float]]:
    """What can be known of a claim whose value ends at a character: the stated value, and then the verdict."""
    held = before if known is None else known
    stated = [(end - len(claim.value) - 1, f" {each}", _STATED) for each in rules.stated_values(held, claim)[:1]]
    if known is None and not stated:
        return []
    return [*stated, (end, rules.support(held, claim.sentence).strip("[]").partition(" ")[0], _VERDICT)]


def _chosen(desk: Desk, rng: random.Random, scene: Scene, count: int) -> Scene:
    """So many calls as they come; of even ratings a quarter so, the others with every reply as often as another."""
    if not desk.even or scene.kind not in RATINGS:
        return replace(scene, calls=scene.calls[:count])
    calls = list(scene.calls[: count // 4])
    by_reply: dict[str, list[Call]] = {}
    for call in scene.calls[count // 4 :]:
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
    "quality": _about_answers("quality"),
    "facts": _about_answers("facts"),
    "completeness": _completeness,
    "support": _support,
    "supports": _supports,
    "notes": _notes,
}
