"""Asking measured on gold: how many planted faults the checks catch, how many good questions they lose.

The questions are gold: those of the shipped library in English and Chinese, those of a generated world, and those of
dialogues that rules write (history_bank.py). A stub
writes them (`stub_asker`), with six faults at given rates; it also answers, with errors at given rates. The checks, the
prompts, the client and the ledger are the real ones. No model takes part, so the figures are of the checks and not of a
generator.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flows.bench.common import stub_server
from flows.bench.history_bank import Messages, dialogues
from infra.canonical import seeded_random, text_id
from infra.recipe import Recipe, parse_recipe
from tasks.asking.checks import Candidate, Checks
from tasks.asking.duplicates import QuestionText, find_repeats
from tasks.asking.kind import known_kinds
from tasks.asking.matching import same_text
from tasks.asking.recipes import asking_half
from tasks.asking.wording import points_at_text
from tasks.asking.writing import IntendedQuestion, Place
from tasks.documents.histories import HistoryTurn, written_turns
from tasks.library import UNANSWERABLE, library_articles, library_questions
from tasks.microworld.questions import LIST, ONE_HOP, SHARES, make_questions
from tasks.microworld.world import make_world, write_documents
from tasks.questions.question import Session, Turn
from tasks.resources import open_resources
from tasks.scoring.run import InThread, run_to_end

FAULTS = ("wrong_proof", "not_self_contained", "closed_book", "wrong_answer", "duplicate", "kind")
RATE = 0.08  # of each fault
_PEOPLE, _QUESTIONS = 60, 240  # of the generated world
_KINDS = {"one-hop": "single_fact", "two-hop": "multi_hop", "comparison": "comparison", "number": "number"}


@dataclass(frozen=True)
class BankRow:
    """A gold question, what is written in its place, and how the stub treats it. `documents`: titles and texts."""

    kind: str
    language: str
    question: str  # as it is written
    answers: tuple[str, ...]  # gold; alternatives, but of a list its `items` together
    items: tuple[str, ...]
    proof: tuple[str, ...]  # gold
    documents: tuple[tuple[str, str], ...]
    other: str  # a wrong answer
    fault: str = ""
    knows_answer: bool = False
    self_contained: bool = True
    written_answers: tuple[str, ...] = ()
    written_proof: tuple[str, ...] = ()
    messages: Messages = ()  # of a history, which is its one document

    @property
    def reply(self) -> str:
        """What the stub writes."""
        if self.kind == UNANSWERABLE:
            return json.dumps({"question": self.question}, ensure_ascii=False)
        several = known_kinds()[self.kind].several_answers
        answer = list(self.written_answers) if several else self.written_answers[0]
        reply = {"question": self.question, "answer": answer, "proof": list(self.written_proof)}
        return json.dumps(reply, ensure_ascii=False)


def measure() -> dict[str, Any]:
    """The figures for each text and for both."""
    banks = {"library": library_bank(), "generated": world_bank(), "histories": history_bank()}
    figures: dict[str, Any] = {"no model": "a stub writes and answers", "rate of each fault": RATE}
    for name, rows in banks.items():
        figures[name] = measure_bank(with_faults(rows))
    return figures


def measure_bank(rows: Sequence[BankRow]) -> dict[str, Any]:
    """What the checks do with the questions of a bank."""
    with tempfile.TemporaryDirectory() as folder:
        bank = Path(folder) / "bank.json"
        values = [{**asdict(row), "reply": row.reply} for row in rows]
        bank.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
        with stub_server("--bank", str(bank), module="stub_asker") as url:
            recipe = bench_recipe(Path(folder), url)
            candidates = [Candidate(intended(number, row)) for number, row in enumerate(rows)]
            with open_resources(recipe) as resources:
                scoring = resources.scoring()
                assert recipe.asking is not None
                run_to_end(Checks(recipe.asking, scoring).work(candidates), InThread(scoring))
                counts = resources.counts()
    return outcome_figures(rows, candidates, recipe, counts)


def outcome_figures(
    rows: Sequence[BankRow], candidates: Sequence[Candidate], recipe: Recipe, counts: Mapping[str, Any]
) -> dict[str, Any]:
    """Faults caught by reason, good questions lost, what is right after the checks, and calls for each of them."""
    assert recipe.asking is not None
    reasons = [candidate.drop.reason if candidate.drop else "" for candidate in candidates]
    texts = []
    for candidate, reason in zip(candidates, reasons, strict=True):
        if not reason:
            draft = candidate.draft
            texts.append(QuestionText(candidate.intended.example_id, draft.question, draft.answers))
    repeats = find_repeats(sorted(texts, key=lambda text: text.example_id), recipe.asking.checks.likeness)
    for place, candidate in enumerate(candidates):
        if candidate.intended.example_id in repeats:
            reasons[place] = "near_duplicate"
    faults = {}
    for fault in FAULTS:
        planted = 0
        caught: Counter[str] = Counter()
        for place, row in enumerate(rows):
            if row.fault == fault:
                planted += 1
                # Of a repeated question one stays, whichever.
                single = fault == "duplicate" and bool(reasons[place - 1])
                if reasons[place] or single:
                    caught[reasons[place] or "the other is dropped"] += 1
        faults[fault] = {"planted": planted, "caught": caught.total(), "by": dict(caught.most_common())}
    good = [reason for row, reason in zip(rows, reasons, strict=True) if not row.fault]
    lost = Counter(filter(None, good))
    passed = [row for row, reason in zip(rows, reasons, strict=True) if not reason]
    right = sum(is_right(row) for row in passed)
    calls = sum(count.made + count.reused for count in counts.values())
    tokens = sum(count.prompt_tokens + count.completion_tokens for count in counts.values())
    return {
        "questions": len(rows),
        "faults": faults,
        "good": {"questions": len(good), "lost": lost.total(), "share": _share(lost.total(), len(good))},
        "lost by": dict(lost.most_common()),
        "passed": len(passed),
        "right": _share(right, len(passed)),
        "right before": _share(sum(map(is_right, rows)), len(rows)),
        "calls per question": round(calls / max(1, len(passed)), 1),
        "tokens per question": round(tokens / max(1, len(passed))),
    }


def is_right(row: BankRow) -> bool:
    """Whether what was written is right by gold: its answer, its proof, and that it can be understood by itself."""
    if row.fault in ("wrong_proof", "not_self_contained", "kind"):
        return False
    return row.kind == UNANSWERABLE or row.fault != "wrong_answer"


def bench_recipe(folder: Path, url: str) -> Recipe:
    """A recipe that asks the stub for everything."""
    model = {"name": "stub", "tokenizer": "microworld", "endpoints": [url]}
    recipe = parse_recipe(
        {
            "name": "bench-asking",
            "store": str(folder / "store"),
            "documents": {"source": str(folder)},
            "policy": model,
            "judge": {**model, "name": "stub-judge", "prompts": "terse", "structured": "never"},
            "sampling": {"strategy": "plain"},
            "dataset": {"name": "bench", "licence": "apache-2.0"},
        }
    )
    return asking_half(recipe)


def intended(number: int, row: BankRow) -> IntendedQuestion:
    """The intended question that the stub writes a row for: all of its documents are seen."""
    places = []
    for title, text in row.documents:
        turns = _turns(row)[1] if row.messages else ()
        places.append(Place(text_id(text), f"{title} (row {number})", 0, text, turns=turns))
    spans = tuple((place, 0, len(document.text)) for place, document in enumerate(places))
    kind = known_kinds()[row.kind]
    return IntendedQuestion(f"row-{number:05d}", places[0].document_id, kind, row.language, tuple(places), spans)


def library_bank() -> list[BankRow]:
    """The library's questions but for its lists, which stand in one place."""
    rows = []
    for language in ("en", "zh"):
        articles = library_articles(language)
        for question in library_questions(language):
            if question.kind == LIST:
                continue
            ids = list(dict.fromkeys(evidence.article for evidence in question.evidence))
            proof = []
            for evidence in question.evidence:
                proof.append(articles[evidence.article].text[evidence.start : evidence.end])
            documents = tuple((articles[name].title, articles[name].text) for name in ids)
            answerable = question.kind != UNANSWERABLE
            kind = _KINDS.get(question.kind, question.kind)
            if kind == "multi_hop" and len(ids) > 1:
                kind = "across_documents"
            if known_kinds()[kind].needs_each and len(proof) < 2:
                kind = "single_fact"
            gold = question.answers if answerable else ()
            sentences = tuple(proof) if answerable else ()
            rows.append(_row(kind, language, question.question, gold, (), sentences, documents))
    return rows


def world_bank() -> list[BankRow]:
    """Questions of one fact, of two, and lists, of a generated world."""
    world = make_world("bench-asking", _PEOPLE, "train")
    docs = write_documents(world)
    rows = []
    for question in make_questions(world, docs, "bench", _QUESTIONS, SHARES):
        if points_at_text(question.question):  # "What does the text say about ...?"
            continue
        proof, places = [], []
        for fact in question.facts:
            place = next(number for number in question.supports if fact in docs[number].facts)
            start, end = docs[place].spans[docs[place].facts.index(fact)]
            proof.append(docs[place].text[start:end])
            places.append(place)
        documents = tuple((docs[place].title, docs[place].text) for place in dict.fromkeys(places))
        items: tuple[str, ...] = ()
        kind = "single_fact" if question.kind == ONE_HOP else "multi_hop" if len(documents) == 1 else "across_documents"
        if question.kind == LIST:
            if len(question.answers) < 3 or len(set(proof)) < 2:
                continue
            kind, items = "list", question.answers
        rows.append(_row(kind, "en", question.question, question.answers, items, tuple(proof), documents))
    return rows


def history_bank() -> list[BankRow]:
    """Questions about dialogues and logs of an agent."""
    rows = []
    for dialogue in dialogues():
        empty = BankRow(dialogue.kind, dialogue.language, "", (), (), (), (), "", messages=dialogue.messages)
        documents = ((dialogue.title, _turns(empty)[0]),)
        gold = (dialogue.answer,)
        row = _row(dialogue.kind, dialogue.language, dialogue.question, gold, (), dialogue.proof, documents)
        rows.append(replace(row, messages=dialogue.messages))
    return rows


def _turns(row: BankRow) -> tuple[str, tuple[HistoryTurn, ...]]:
    """The text of a row's messages, and their turns in it."""
    return written_turns([Session("", tuple(Turn(role, content) for role, content in row.messages))], row.language)


def with_faults(rows: Iterable[BankRow]) -> list[BankRow]:
    """The rows, each fault planted in its share of them; a duplicate repeats the row before it, which is good."""
    faulty = list(rows)
    order = list(range(1, len(faulty)))
    seeded_random("faults", len(faulty)).shuffle(order)
    for fault in FAULTS:
        left = round(RATE * len(faulty))
        for place in order:
            if left and _takes(fault, faulty, place):
                faulty[place] = _planted(faulty[place], fault, left % 2 == 0, faulty[place - 1])
                left -= 1
    return faulty


def _takes(fault: str, rows: Sequence[BankRow], place: int) -> bool:
    """Whether a fault can be planted in a row: one that is good, and that no duplicate repeats."""
    row, before, after = rows[place], rows[place - 1], rows[(place + 1) % len(rows)]
    if row.fault or row.kind == UNANSWERABLE or after.fault == "duplicate":
        return False
    if fault == "duplicate":
        return not before.fault and before.kind != UNANSWERABLE
    return fault != "kind" or row.kind == "single_fact"


def _planted(row: BankRow, fault: str, first_way: bool, before: BankRow) -> BankRow:
    """A row with a fault, in one of two ways."""
    row = replace(row, fault=fault)
    stray = _stray_sentence(row)
    if fault == "wrong_proof":
        altered = (*row.proof[:-1], row.proof[-1][:-1] + " indeed.")
        return replace(row, written_proof=altered if first_way else (*row.proof[:-1], stray))
    if fault == "not_self_contained":
        opening = "根据本文，" if row.language == "zh" else "According to the text: "
        question = opening + row.question if first_way else f"{row.question} [who was named before]"
        return replace(row, question=question, self_contained=False)
    if fault == "closed_book":
        return replace(row, knows_answer=True)
    if fault == "wrong_answer":
        return replace(row, written_answers=(row.other, "Nobody", "Nothing") if row.items else (row.other,))
    if fault == "duplicate":
        repeated = before.question[:-1].upper() + before.question[-1]
        if not first_way:
            repeated = f"请问{before.question}" if before.language == "zh" else f"Say: {before.question}"
        return replace(before, question=repeated, fault=fault)
    proof = row.proof if first_way else (*row.proof, stray)
    return replace(row, kind="multi_hop", written_proof=proof)


def _stray_sentence(row: BankRow) -> str:
    """A sentence of the row's first document that proves nothing."""
    for sentence in row.documents[0][1].replace("。", "。\n").replace(". ", ".\n").splitlines():
        text = sentence.strip()
        if len(text) > 20 and not any(text in proof or proof in text for proof in row.proof):
            return text
    return row.documents[0][1][:40]


def _row(
    kind: str,
    language: str,
    question: str,
    answers: Sequence[str],
    items: tuple[str, ...],
    proof: tuple[str, ...],
    documents: tuple[tuple[str, str], ...],
) -> BankRow:
    other = "another answer" if language == "en" else "另一个答案"
    if kind == "number":
        other = "987654"
    gold = tuple(answers)
    written = items or gold[:1]
    assert not same_text(gold, other)
    row = BankRow(kind, language, question, gold, items, proof, documents, other)
    return replace(row, written_answers=written, written_proof=proof)


def _share(count: int, total: int) -> float:
    return round(count / total, 4) if total else 0.0
