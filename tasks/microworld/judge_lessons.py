"""The lessons of the judge: real prompts over fresh worlds, with the replies of the rules as labels.

A `CallGroup` holds several calls of one kind whose prompts begin with the same text (instructions, passages, notes).
The training reads that text once for all of them, see `judge_batches`. Retrieval is imitated by names: a statement
gets the chunks of the context that hold most of its names, and others by chance.

The label of a call is what `rule_judge` replies to that prompt; only for notes it is `rules.chained_notes`. So a change
of the rules needs a new training. The verdict at the end of a reply alone teaches the model too little about comparing:
a call also has predictions, words that can be known while its prompt is read. A group depends on its seed alone.
There are no Chinese prompts, no full prompts, and no baselines that see a document or two answers.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from infra.errors import InputError
from tasks.microworld import rules
from tasks.microworld.answers import faulty_answer, other_name
from tasks.microworld.parsing import ParsedClaim, names_in, read_claim, read_facts, read_question, sentences
from tasks.microworld.policy_lessons import context_and_questions, render
from tasks.microworld.questions import Question
from tasks.microworld.rule_judge import judge
from tasks.microworld.world import Fact, WorldDocument, facts_about, stated_facts

KINDS = ("helpfulness", "logicality", "quality", "completeness", "facts", "support", "supports", "notes")
RATINGS = ("helpfulness", "logicality", "quality", "completeness")
CHUNK_TOKENS, CHUNKS = 128, 5  # of the chunks that the factory shows for a statement, and their number

_PART_TOKENS = (128, 256, 256, 512, 512)  # of a part that notes are taken from; one is drawn
_PEOPLE = (16, 24, 40, 60)
_FIRST_OWN_VALUE = {"notes": "question", "support": "statement", "completeness": "answer", "supports": "statements"}
_STATEMENT = re.compile(r"<statement>(.*?)</statement>")
_FINAL_ANSWER = re.compile(r"\nAnswer: (\w+)\n</answer>")


@dataclass(frozen=True)
class Prediction:
    """A word that can be known while a prompt is read, although the prompt itself may say another word there.

    `position`: of the character in the call's own text at which the word begins, for a verdict the end of a statement.
    """

    position: int
    word: str


@dataclass(frozen=True)
class LessonCall:
    """One call: the end of its prompt that it has for itself, the right reply, and predictions in that end."""

    own: str
    reply: str
    predictions: tuple[Prediction, ...] = ()


@dataclass(frozen=True)
class CallGroup:
    """Calls of one kind whose prompts begin with the same text."""

    kind: str
    shared: str
    calls: tuple[LessonCall, ...]


@dataclass(frozen=True)
class LessonSettings:
    """What call groups are made with: the terse prompts by kind, and the tokenizer that measures chunks.

    `chunk_counts`: how many chunks are shown for a statement, one number is drawn for each group. `small_share`: share
    of groups with as little text as possible. `even_ratings`: most ratings are drawn so that each is as frequent as
    another, and not as frequent as answers make it.
    """

    prompts: Mapping[str, str]
    tokenizer: Any
    chunk_counts: tuple[int, ...] = (CHUNKS,)
    small_share: float = 0.0
    even_ratings: bool = False


@dataclass(frozen=True)
class _Context:
    """A context with questions about it."""

    docs: tuple[WorldDocument, ...]
    text: str
    questions: tuple[Question, ...]


def lesson_settings(folder: Path, tokenizer: Any) -> LessonSettings:
    """Read `judge-terse-KIND.txt` of a prompt folder for every kind. Raises InputError when one is missing."""
    prompts = {}
    for kind in KINDS:
        path = folder / f"judge-terse-{kind}.txt"
        if not path.is_file():
            raise InputError(f"there is no prompt file {path}: give the folder of a language's prompts")
        prompts[kind] = path.read_text(encoding="utf-8").strip()
    return LessonSettings(prompts, tokenizer)


def make_call_group(settings: LessonSettings, kind: str, seed: str, calls: int) -> CallGroup:
    """A group of up to so many calls; the same seed gives the same group."""
    rng = random.Random(f"{kind}:{seed}")
    return _MAKERS[kind](settings, rng, calls)


def cut_into_chunks(tokenizer: Any, text: str, size: int) -> list[str]:
    """The text in chunks of `size` tokens, as the factory cuts it."""
    offsets = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).offsets
    starts = [start for start, _ in offsets]
    borders = [0, *starts[size::size], len(text)]
    return [text[start:end] for start, end in itertools.pairwise(borders)]


def nearest_chunks(rng: random.Random, chunks: Sequence[str], statement: str, count: int) -> list[str]:
    """The chunks that hold most of the statement's names, others by chance, in the order of the document."""
    names = names_in(statement)
    ranks = []
    for index, chunk in enumerate(chunks):
        names_in_chunk = sum(name in chunk for name in names)
        ranks.append((-names_in_chunk, rng.random(), index))
    nearest = sorted(index for *_, index in sorted(ranks)[:count])
    return [chunks[index] for index in nearest]


def _passages(rng: random.Random, chunks: Sequence[str], statement: str, count: int) -> str:
    """The text of the nearest chunks of a statement, as its prompt shows it."""
    return "\n\n".join(map(str.strip, nearest_chunks(rng, chunks, statement, count)))


def _make_context(rng: random.Random, document_count: int, questions: int) -> _Context:
    docs, drawn = context_and_questions(rng, document_count, questions, rng.choice(_PEOPLE))
    return _Context(tuple(docs), render(docs), tuple(drawn))


def _group(
    settings: LessonSettings,
    kind: str,
    shared_values: Mapping[str, str],
    own_values: Sequence[Mapping[str, str]],
    evidence: str | None = None,
) -> CallGroup:
    """A group from the prompt values that all calls share and those of each call; labels come from the rules.

    `evidence`: the text that statements of the calls are compared with; without one, what stands before a statement.
    """
    mark = f"{{{_FIRST_OWN_VALUE.get(kind, 'question')}}}"
    before, _, after = settings.prompts[kind].partition(mark)
    shared = _fill(before, shared_values)
    calls = []
    for values_of_call in own_values:
        values = {**shared_values, **values_of_call}
        own = _fill(mark + after, values)
        if kind == "notes":
            reply = rules.chained_notes(values["chunk"], values["question"])
        else:
            reply = judge(shared + own).text
        calls.append(LessonCall(own, reply, _predictions(own, values.get("question", ""), evidence)))
    return CallGroup(kind, shared, tuple(calls))


def _fill(template: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\{([a-z_]+)\}", lambda match: values[match.group(1)], template)


def _answer_group(kind: str, settings: LessonSettings, rng: random.Random, count: int) -> CallGroup:
    """A group of a kind whose calls see a question and its answer only."""
    context = _make_context(rng, 24, 8)
    own_values = []
    for _ in range(count * 2):
        question = rng.choice(context.questions)
        own_values.append({"question": question.question, "answer": _answer(rng, question, context)})
    return _select_calls(settings, rng, _group(settings, kind, {}, own_values), count)


def _completeness(settings: LessonSettings, rng: random.Random, count: int) -> CallGroup:
    """Answers to one question, with notes on all parts of the context; one note in twelve is missing."""
    context = _make_context(rng, 8 if rng.random() < settings.small_share else 20, 4)
    question = rng.choice(context.questions)
    parts = cut_into_chunks(settings.tokenizer, context.text, rng.choice(_PART_TOKENS))
    notes = []
    for number, part in enumerate(parts, 1):
        note = rules.chained_notes(part, question.question)
        if note != rules.NO_NOTES and rng.random() < 0.92:
            notes.append(f"Part {number} of {len(parts)}:\n{note}")
    shared_values = {"notes": "\n\n".join(notes) or rules.NO_NOTES, "question": question.question}
    own_values = []
    for _ in range(count * 2):
        own_values.append({"answer": _answer(rng, question, context)})
    group = _group(settings, "completeness", shared_values, own_values, shared_values["notes"])
    return _select_calls(settings, rng, group, count)


def _notes(settings: LessonSettings, rng: random.Random, count: int) -> CallGroup:
    """Questions on one part of a context; for a third of them, or half where few are, the part says nothing."""
    small = rng.random() < settings.small_share
    context = _make_context(rng, rng.randint(4, 8) if small else rng.randint(12, 24), count * 2)
    part_tokens = min(_PART_TOKENS) if small else rng.choice(_PART_TOKENS)
    part = rng.choice(cut_into_chunks(settings.tokenizer, context.text, part_tokens))
    own_values = [{"question": question.question} for question in context.questions]
    group = _group(settings, "notes", {"chunk": part}, own_values)
    empty, with_notes = [], []
    for call in group.calls:
        if call.reply == rules.NO_NOTES:
            empty.append(call)
        else:
            with_notes.append(call)
    empty = empty[: min(max(count // 3, count - len(with_notes)), max(1, len(with_notes)))]
    return replace(group, calls=(*with_notes[: count - len(empty)], *empty))


def _support(settings: LessonSettings, rng: random.Random, count: int) -> CallGroup:
    """Statements on one set of passages: those that are nearest to the first statement."""
    context = _make_context(rng, rng.randint(16, 24), 6)
    statement = _statement_of_answer(rng, context)
    chunks = cut_into_chunks(settings.tokenizer, context.text, CHUNK_TOKENS)
    chunk_count = 1 if rng.random() < settings.small_share else rng.choice(settings.chunk_counts)
    passages = _passages(rng, chunks, statement, chunk_count)
    stated = stated_facts(context.docs)
    own_values = [{"statement": statement}]
    for _ in range(count - 1):
        own_values.append({"statement": _statement_about(rng, read_facts(passages), stated)})
    return _group(settings, "support", {"passages": passages}, own_values, passages)


def _supports(settings: LessonSettings, rng: random.Random, _: int) -> CallGroup:
    """One call with two or three statements, each with passages of its own."""
    context = _make_context(rng, rng.randint(16, 24), 6)
    chunks = cut_into_chunks(settings.tokenizer, context.text, CHUNK_TOKENS)
    stated = stated_facts(context.docs)
    blocks = []
    for number in range(1, rng.randint(2, 3) + 1):
        from_answer = rng.random() < 0.5
        statement = _statement_of_answer(rng, context) if from_answer else _statement_about(rng, stated, stated)
        passages = _passages(rng, chunks, statement, rng.randint(2, 3))
        blocks.append(
            f'<passages number="{number}">\n{passages}\n</passages>\n\n'
            f'<statement number="{number}">\n{statement}\n</statement>'
        )
    return _group(settings, "supports", {}, [{"statements": "\n\n".join(blocks)}])


def _answer(rng: random.Random, question: Question, context: _Context) -> str:
    other_questions = [other for other in context.questions if other is not question]
    return faulty_answer(rng, question, other_questions, context.docs)


def _statement_of_answer(rng: random.Random, context: _Context) -> str:
    """A statement that some answer makes."""
    question = rng.choice(context.questions)
    answer = faulty_answer(rng, question, [], context.docs)
    statements: list[str] = _STATEMENT.findall(rules.facts(question.question, answer))
    return rng.choice(statements or [question.facts[0].sentence])


def _statement_about(rng: random.Random, in_passages: Sequence[Fact], stated: Sequence[Fact]) -> str:
    """A statement on what passages state: true, with another value, or of two hops. `stated`: by the whole context."""
    fact = rng.choice(in_passages or stated)
    chance = rng.random()
    if chance < 0.45:
        return fact.sentence
    if chance < 0.75:
        near_values = []
        for other in in_passages:
            if other.relation == fact.relation and other.value != fact.value:
                near_values.append(other.value)
        if near_values and rng.random() < 0.7:
            return replace(fact, value=rng.choice(near_values)).sentence
        return replace(fact, value=other_name(rng, fact.value, stated)).sentence
    if chance < 0.85:
        return rng.choice(stated).sentence
    return _two_hop_statement(rng, fact, in_passages, stated)


def _two_hop_statement(rng: random.Random, first: Fact, in_passages: Sequence[Fact], stated: Sequence[Fact]) -> str:
    """A claim of two hops: true, or with another value, or with another subject."""
    second_hops = facts_about(first.value, in_passages) or facts_about(first.value, stated)
    if not second_hops:
        return replace(first, value=other_name(rng, first.value, stated)).sentence
    second = rng.choice(second_hops)
    chance = rng.random()
    value = other_name(rng, second.value, stated) if chance < 0.4 else second.value
    subject = other_name(rng, first.subject, stated) if chance > 0.7 else first.subject
    return ParsedClaim(subject, (first.relation, second.relation), value).sentence


def _predictions(text: str, question: str, evidence: str | None) -> tuple[Prediction, ...]:
    """For each statement in a text, and for an answer line with one name: the value by the evidence, then the verdict.

    Without `evidence`, a statement is compared with what stands before it.
    """
    predictions: list[Prediction] = []
    position = 0
    for sentence in sentences(text):
        position = text.index(sentence, position)
        claim = read_claim(sentence)
        if claim is not None and sentence.endswith(claim.sentence):
            before = text[max(0, text.rfind("<passages", 0, position)) : position]
            predictions += _predictions_on(claim, position + len(sentence) - 1, evidence, before)
    parsed, final = read_question(question), _FINAL_ANSWER.search(text)
    if parsed is not None and not parsed.is_list and final is not None:
        claim = ParsedClaim(parsed.about, parsed.hops, final.group(1))
        predictions += _predictions_on(claim, final.end(1), evidence, text[: final.start()])
    return tuple(predictions)


def _predictions_on(claim: ParsedClaim, end: int, evidence: str | None, before: str) -> list[Prediction]:
    """The value that the evidence states, and the verdict, for a claim whose value ends at the character `end`."""
    compared = before if evidence is None else evidence
    values = rules.stated_values(compared, claim)
    predictions = []
    if values:
        predictions.append(Prediction(end - len(claim.value) - 1, f" {values[0]}"))
    elif evidence is None:
        return []
    verdict = rules.support(compared, claim.sentence).strip("[]").partition(" ")[0]
    return [*predictions, Prediction(end, verdict)]


def _select_calls(settings: LessonSettings, rng: random.Random, group: CallGroup, count: int) -> CallGroup:
    """So many calls as they come; with even ratings only a quarter, and the others with equally frequent replies."""
    if not settings.even_ratings or group.kind not in RATINGS:
        return replace(group, calls=group.calls[:count])
    calls = list(group.calls[: count // 4])
    by_reply: dict[str, list[LessonCall]] = {}
    for call in group.calls[count // 4 :]:
        by_reply.setdefault(call.reply, []).append(call)
    while len(calls) < count and by_reply:
        reply = rng.choice(sorted(by_reply))
        calls.append(by_reply[reply].pop())
        if not by_reply[reply]:
            del by_reply[reply]
    return replace(group, calls=tuple(calls))


_MAKERS: Mapping[str, Callable[[LessonSettings, random.Random, int], CallGroup]] = {
    "helpfulness": partial(_answer_group, "helpfulness"),
    "logicality": partial(_answer_group, "logicality"),
    "quality": partial(_answer_group, "quality"),
    "facts": partial(_answer_group, "facts"),
    "completeness": _completeness,
    "support": _support,
    "supports": _supports,
    "notes": _notes,
}
