"""Writing questions and checking them: the free checks first, then the cheap calls, then those with whole passages.

A question that fails is dropped at once and costs no further call. Reasons, in the order of the checks:

    no_question             the reply that should hold a question cannot be read (a fault)
    declined                the passages hold no question of this kind, says the model
    points_at_text          the question points at "the text", or begins with a pronoun
    proof_not_verbatim      a sentence of the proof is not in the passages
    fails_kind_test         the kind's own test
    not_self_contained      who has not read the document cannot know what the question is about
    answered_closed_book    the policy is right without the document, in half of its tries or more
    not_answered_from_proof the answerer gives another answer from the proof alone
    answered_without_sentence of a kind that needs each sentence: it is answered without one of them
    answers_differ          half of the answerer's tries with the passages, or more, give another answer
    no_verdict              a reply that a check needs cannot be used (a fault)

A check is a generator of steps, as a scorer is. What it finds is a judgement on the question: 1 passed, 0 failed.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.canonical import canonical_json
from infra.recipe import Asking, Recipe
from tasks.asking.answering import (
    ANSWER,
    FROM_PROOF,
    WITHOUT_SENTENCE,
    answer_query,
    closed_book_query,
    same_query,
    self_contained_query,
    try_query,
)
from tasks.asking.kind import NO_DRAFT, Draft
from tasks.asking.proof import find_proof, whole_turns
from tasks.asking.wording import points_at_text
from tasks.asking.writing import DECLINED, IntendedQuestion, write_query
from tasks.judging.context import ScoringContext
from tasks.judging.steps import JudgeQuery, ModelRole, Step, Verdict, ask
from tasks.records.example import Drop, Judgement
from tasks.records.question import EvidenceSpan

STAGE = "ask"  # of the drops
CHECKS = (
    "write",
    "wording",
    "proof",
    "kind",
    "self_contained",
    "closed_book",
    "from_proof",
    "without_sentence",
    "answer",
)  # in their order, as judgements name them
NO_QUESTION, NO_VERDICT = "no_question", "no_verdict"
BY_DESIGN = frozenset(
    {
        DECLINED,
        "points_at_text",
        "proof_not_verbatim",
        "fails_kind_test",
        "not_self_contained",
        "answered_closed_book",
        "not_answered_from_proof",
        "answered_without_sentence",
        "answers_differ",
        "near_duplicate",
    }
)
_CHARACTERS = 200  # of a text in the detail of a drop

Work = Generator[Step, Any, None]


@dataclass(frozen=True, slots=True)
class Call:
    """A query that was asked for a question, by which section's model, and its verdict."""

    section: ModelRole
    query: JudgeQuery[Any]
    verdict: Verdict[Any]


@dataclass(slots=True)
class Candidate:
    """A question on its way through the checks."""

    intended: IntendedQuestion
    draft: Draft = NO_DRAFT
    evidence: list[EvidenceSpan] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)
    drop: Drop | None = None
    difficulty: float | None = None
    tries: int = 0

    def last_reply(self, step: str) -> str:
        """The value of the last reply to a query of this step."""
        values = [str(call.verdict.value or "") for call in self.calls if call.query.kind == step]
        return values[-1] if values else ""

    def settle(self, check: str, fault: str | None, reason: str, evidence: Mapping[str, Any] | None = None) -> None:
        """Note what a check has found: nothing, or a `fault` for which the question is dropped."""
        text = canonical_json({**(evidence or {}), **({"fault": fault} if fault else {})}).decode()
        keys = tuple(dict.fromkeys(key for call in self.calls if call.query.kind == check for key in call.verdict.keys))
        score = 0.0 if fault else 1.0
        self.judgements.append(Judgement(self.intended.example_id, 0, check, score, None, text, keys))
        if fault:
            detail = f"{self.draft.question} — {fault}" if self.draft.question else fault
            self.drop = Drop(self.intended.example_id, STAGE, reason, detail)


def sections_of(recipe: Recipe) -> tuple[ModelRole, ModelRole]:
    """The sections of the models that write and that answer; the policy in place of one that the recipe lacks."""
    assert recipe.asking is not None
    there = recipe.models()
    writer = recipe.asking.model if recipe.asking.model in there else "policy"
    answerer = recipe.asking.answerer or writer
    return writer, answerer if answerer in there else "policy"


class Checks:
    """The checks of a recipe."""

    def __init__(self, asking: Asking, scoring: ScoringContext) -> None:
        self._asking = asking
        self._checks = asking.checks
        self._scoring = scoring
        self._writer, self._answerer = sections_of(scoring.recipe)

    def work(self, candidates: Sequence[Candidate]) -> Work:
        """Write and check questions; a candidate without a drop in the end has passed."""
        yield from self._write(candidates)
        for candidate in _open(candidates):
            self._check_freely(candidate)
        for check in (self._self_contained, self._closed_book, self._from_proof, self._without_sentence, self._answers):
            still_open = _open(candidates)
            if still_open:
                yield from check(still_open)
        still_open = _open(candidates)
        if still_open:
            yield from self._difficulty(still_open)

    def _write(self, candidates: Sequence[Candidate]) -> Work:
        queries = []
        for candidate in candidates:
            queries.append(write_query(candidate.intended, self._asking, self._scoring, self._writer))
        verdicts = yield from self._ask(self._writer, candidates, queries)
        for candidate, verdict in zip(candidates, verdicts, strict=True):
            if verdict.value is None:
                candidate.settle("write", f"{verdict.reason}: {_short(verdict.reply)}", NO_QUESTION)
            elif not verdict.value.question:
                candidate.settle("write", "the passages hold no such question", DECLINED)
            else:
                candidate.draft = verdict.value
                candidate.settle("write", None, "")

    def _check_freely(self, candidate: Candidate) -> None:
        """The checks that make no call."""
        intended, draft = candidate.intended, candidate.draft
        words = points_at_text(draft.question)
        candidate.settle("wording", f"it says {words!r}" if words else None, "points_at_text")
        if candidate.drop or not intended.kind.answered:
            return
        place = find_proof(draft.proof, [place.text for place in intended.places], intended.spans)
        if isinstance(place, str):
            candidate.settle("proof", f"not in the passages: {_short(place)}", "proof_not_verbatim")
            return
        candidate.evidence = whole_turns(place, intended.places)
        candidate.settle("proof", None, "")
        candidate.settle("kind", intended.kind.test(draft, candidate.evidence), "fails_kind_test")

    def _self_contained(self, candidates: Sequence[Candidate]) -> Work:
        if not self._checks.self_contained:
            return
        queries = []
        for candidate in candidates:
            queries.append(self_contained_query(candidate.intended, candidate.draft, self._scoring, self._answerer))
        verdicts = yield from self._ask(self._answerer, candidates, queries)
        for candidate, verdict in zip(candidates, verdicts, strict=True):
            if verdict.value is None:
                candidate.settle("self_contained", f"self_contained: {verdict.reason}", NO_VERDICT)
            else:
                fault = None if verdict.value else "it cannot be understood without the document"
                candidate.settle("self_contained", fault, "not_self_contained")

    def _closed_book(self, candidates: Sequence[Candidate]) -> Work:
        tries = self._checks.closed_book
        answered = [candidate for candidate in candidates if candidate.intended.kind.answered]
        if not tries or not answered:
            return
        queries = []
        for candidate in answered:
            for number in range(1, tries + 1):
                queries.append(
                    closed_book_query(candidate.intended, candidate.draft, self._asking, self._scoring, number)
                )
        rights = yield from self._right_answers("policy", _repeated(answered, tries), queries)
        for candidate, right in zip(answered, _grouped(rights, tries), strict=True):
            count = sum(map(bool, right))
            fault = f"{count} of {tries} tries without the document are right" if 2 * count >= tries else None
            candidate.settle("closed_book", fault, "answered_closed_book", {"right": count, "tries": tries})

    def _from_proof(self, candidates: Sequence[Candidate]) -> Work:
        if not self._checks.from_proof:
            return
        proved = [candidate for candidate in candidates if candidate.evidence and candidate.intended.kind.from_proof]
        queries = []
        for candidate in proved:
            queries.append(self._answer_query(FROM_PROOF, candidate, _proof_of(candidate)))
        rights = yield from self._right_answers(self._answerer, proved, queries)
        for candidate, right in zip(proved, rights, strict=True):
            answer = candidate.last_reply(FROM_PROOF)
            if right is None:
                candidate.settle(FROM_PROOF, "from_proof: no answer can be used", NO_VERDICT)
            else:
                fault = None if right else f"from its proof alone: {_short(answer) or 'no answer'}"
                candidate.settle(FROM_PROOF, fault, "not_answered_from_proof")

    def _without_sentence(self, candidates: Sequence[Candidate]) -> Work:
        """Leave out each sentence of the proof in turn: none may be answered all the same."""
        needing = [candidate for candidate in candidates if candidate.intended.kind.needs_each and candidate.evidence]
        owners, sentences, queries = [], [], []
        for candidate in needing:
            for place, span in enumerate(candidate.evidence):
                owners.append(candidate)
                sentences.append(span["sentence"])
                queries.append(self._answer_query(WITHOUT_SENTENCE, candidate, _proof_of(candidate, without=place)))
        rights = yield from self._right_answers(self._answerer, owners, queries)
        spare: dict[str, str] = {}
        for candidate, sentence, right in zip(owners, sentences, rights, strict=True):
            if right:
                spare.setdefault(candidate.intended.example_id, sentence)
        for candidate in needing:
            sentence_left = spare.get(candidate.intended.example_id)
            fault = f"answered without: {_short(sentence_left)}" if sentence_left else None
            candidate.settle(WITHOUT_SENTENCE, fault, "answered_without_sentence")

    def _answers(self, candidates: Sequence[Candidate]) -> Work:
        tries = self._checks.answers
        if not tries:
            return
        queries = []
        for candidate in candidates:
            for number in range(tries):
                queries.append(self._answer_query(ANSWER, candidate, candidate.intended.passages, number))
        rights = yield from self._right_answers(self._answerer, _repeated(candidates, tries), queries)
        for candidate, of_candidate in zip(candidates, _grouped(rights, tries), strict=True):
            usable = [right for right in of_candidate if right is not None]
            evidence = {"right": sum(usable), "tries": len(usable)}
            if not usable:
                candidate.settle(ANSWER, "answer: no answer can be used", NO_VERDICT, evidence)
                continue
            fault = None
            if 2 * sum(usable) <= len(usable):
                fault = f"{len(usable) - sum(usable)} of {len(usable)} tries with the passages give another answer"
            candidate.settle(ANSWER, fault, "answers_differ", evidence)

    def _difficulty(self, candidates: Sequence[Candidate]) -> Work:
        tries = self._asking.tries
        if not tries:
            return
        queries = []
        for candidate in candidates:
            for number in range(1, tries + 1):
                queries.append(try_query(candidate.intended, candidate.draft, self._asking, self._scoring, number))
        rights = yield from self._right_answers("policy", _repeated(candidates, tries), queries)
        for candidate, of_candidate in zip(candidates, _grouped(rights, tries), strict=True):
            candidate.tries = tries
            candidate.difficulty = round(1 - sum(map(bool, of_candidate)) / tries, 6)

    def _answer_query(
        self, step: str, candidate: Candidate, passages: Sequence[tuple[str, str]], number: int = 0
    ) -> JudgeQuery[str]:
        own = candidate.intended, candidate.draft, passages
        return answer_query(step, *own, self._asking, self._scoring, self._answerer, number)

    def _right_answers(
        self, section: ModelRole, candidates: Sequence[Candidate], queries: Sequence[JudgeQuery[str]]
    ) -> Generator[Step, Any, list[bool | None]]:
        """Whether the answer to each query is that of its candidate; None for one that cannot be used."""
        verdicts = yield from self._ask(section, candidates, queries)
        rights: list[bool | None] = []
        doubtful = []
        for place, (candidate, verdict) in enumerate(zip(candidates, verdicts, strict=True)):
            right = None if verdict.value is None else self._same(candidate, verdict.value)
            rights.append(right)
            if right is False and verdict.value and candidate.intended.kind.answered:
                doubtful.append(place)
        if self._checks.same_answer == "rules":
            return rights
        same_queries = []
        for place in doubtful:
            candidate, answer = candidates[place], str(verdicts[place].value)
            same_queries.append(same_query(candidate.intended, candidate.draft, answer, self._scoring, self._answerer))
        owners = [candidates[place] for place in doubtful]
        for place, same in zip(doubtful, (yield from self._ask(self._answerer, owners, same_queries)), strict=True):
            rights[place] = bool(same.value)
        return rights

    def _same(self, candidate: Candidate, reply: str) -> bool:
        kind = candidate.intended.kind
        return kind.same(candidate.draft.answers, reply) and (bool(reply.strip()) or not kind.answered)

    def _ask(
        self, section: ModelRole, candidates: Sequence[Candidate], queries: Sequence[JudgeQuery[Any]]
    ) -> Generator[Step, Any, list[Verdict[Any]]]:
        """The verdict on each query; its candidate notes the call."""
        verdicts = yield from ask(queries, "questions", section)
        for candidate, query, verdict in zip(candidates, queries, verdicts, strict=True):
            candidate.calls.append(Call(section, query, verdict))
        return verdicts


def _open(candidates: Sequence[Candidate]) -> list[Candidate]:
    return [candidate for candidate in candidates if candidate.drop is None]


def _proof_of(candidate: Candidate, without: int | None = None) -> list[tuple[str, str]]:
    """The sentences of the proof by document, under its title; all, or all but one."""
    sentences: dict[int, list[str]] = {}
    for place, span in enumerate(candidate.evidence):
        if place != without:
            sentences.setdefault(span["document"], []).append(span["sentence"])
    return [(candidate.intended.places[document].title, "\n".join(texts)) for document, texts in sentences.items()]


def _repeated(candidates: Sequence[Candidate], times: int) -> list[Candidate]:
    return [candidate for candidate in candidates for _ in range(times)]


def _grouped(rights: Sequence[bool | None], size: int) -> list[Sequence[bool | None]]:
    return [rights[start : start + size] for start in range(0, len(rights), size)]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _CHARACTERS else f"{line[: _CHARACTERS - 1]}…"
