"""The facts that answers claim, and the judge's verdict on each: asked for in the order that decides soonest.

Each question's answers are `Trial`s: the facts of one answer, and verdicts as they come in. Facts go to the judge
in rounds over all questions at once. The answers that look best and worst from the other scorers' words go first
and in full, the rest a share of their facts at a time, until no answer is left that could still matter. A fact is
looked up in the context among its nearest chunks; equal facts of a question are one question to the judge.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tasks.judging.asking import Ask, Form, Word, ask_all, judge_of, judge_prompt
from tasks.judging.chunks import Span
from tasks.judging.rating import silence
from tasks.judging.replies import read_facts, read_support
from tasks.judging.retrieval import nearest
from tasks.judging.standing import Prospect, Standing, out_of_the_running
from tasks.nouns import Answer
from tasks.scoring import Bench, Case

PRUNED = "pruned"
_ROUNDS = 6  # an answer between best and worst has its facts judged in so many rounds, at most
_OPENERS = 2  # answers at either end whose facts are all judged in the first round
_LABELS = ("Fully supported", "Partially supported", "No support")


@dataclass(slots=True)
class Trial:
    """One answer's facts, null until they are known, and the verdicts on the first of them."""

    case: Case
    answer: Answer
    listed: Word[tuple[str, ...]] | None = None  # the judge's list of facts
    passages: list[tuple[Span, ...]] = field(default_factory=list)  # by fact
    verdicts: list[Word[float]] = field(default_factory=list)  # by fact; of the first ones

    @property
    def facts(self) -> tuple[str, ...]:
        return (self.listed.value or ()) if self.listed else ()

    @property
    def open(self) -> bool:
        """True while a verdict is missing that could still bring a score."""
        if self.listed is None:
            return True
        return self.fault is None and len(self.verdicts) < len(self.facts)

    @property
    def fault(self) -> str | None:
        """Why there can be no score: the facts, or a verdict, could not be had."""
        if self.listed is not None and self.listed.reason is not None:
            return f"facts: {self.listed.reason}"
        return next((f"support: {word.reason}" for word in self.verdicts if word.reason is not None), None)

    def prospect(self, no_facts: float | None) -> Prospect:
        """Between what its score can still be."""
        if self.listed is None:
            return Prospect(self.answer, min(0.0, no_facts or 0.0), max(10.0, no_facts or 0.0), False)
        if not self.facts:
            return Prospect(self.answer, no_facts or 0.0, no_facts or 0.0, self.fault is None and no_facts is not None)
        sure = math.fsum(word.value or 0.0 for word in self.verdicts)
        missing = len(self.facts) - len(self.verdicts)
        low, high = (10 * each / len(self.facts) for each in (sure, sure + missing))
        return Prospect(self.answer, low, high, self.fault is None and missing == 0)


@dataclass(frozen=True, slots=True)
class Inquiry:
    """How facts are listed and checked."""

    facts_tokens: int
    support_tokens: int
    chunk_tokens: int
    nearest: int
    share: bool  # judge equal facts of a question once
    no_facts: float | None  # the score of an answer that claims none


def try_answers(cases: Sequence[Case], inquiry: Inquiry, standing: Standing | None, bench: Bench) -> list[list[Trial]]:
    """The trials of each case's answers that have text, in their order. Without a standing every fact is judged."""
    trials = [[Trial(case, answer) for answer in case.answers if silence(answer) is None] for case in cases]

    def running(of_case: Sequence[Trial]) -> list[Trial]:
        waiting = [each for each in of_case if each.open]
        if standing is None or not waiting:
            return waiting
        out = out_of_the_running([each.prospect(inquiry.no_facts) for each in of_case], standing)
        return [each for each in waiting if each.answer.sample_index not in out]

    _list_facts([each for of_case in trials for each in running(of_case)], inquiry, bench)
    opening = True
    while any(live := [running(of_case) for of_case in trials]):
        batch: list[tuple[Trial, int]] = []
        for of_case, waiting in zip(trials, live, strict=True):
            batch += _next(of_case, waiting, inquiry, standing, opening)
        _judge_facts(batch, inquiry, bench)
        opening = False
    return trials


def _next(
    of_case: Sequence[Trial], waiting: Sequence[Trial], inquiry: Inquiry, standing: Standing | None, opening: bool
) -> list[tuple[Trial, int]]:
    """The answers of a question whose facts are judged now, and how many facts of each.

    Without a standing: all. First those at both ends in full, until enough are scored to tell who is out; then a
    share of every answer that still matters.
    """
    missing = [(each, len(each.facts) - len(each.verdicts)) for each in waiting]
    if standing is None:
        return missing
    scored = sum(each.prospect(inquiry.no_facts).scored for each in of_case)
    if opening or scored < standing.pairing.min_scored:
        count = _OPENERS if opening else 1
        missing.sort(key=lambda each: (_middle(each[0], inquiry, standing), each[0].answer.sample_index))
        return [*missing[:count], *missing[max(count, len(missing) - count) :]]
    return [(each, min(left, math.ceil(len(each.facts) / _ROUNDS))) for each, left in missing]


def _middle(trial: Trial, inquiry: Inquiry, standing: Standing) -> float:
    prospect = trial.prospect(inquiry.no_facts)
    return (
        standing.reward((trial.answer.example_id, trial.answer.sample_index), (prospect.low + prospect.high) / 2)
        or -math.inf
    )


def _list_facts(trials: Sequence[Trial], inquiry: Inquiry, bench: Bench) -> None:
    judge, _ = judge_of(bench)
    asks = [
        Ask(
            "facts",
            judge_prompt(
                "facts",
                each.case.example.language,
                judge.prompts,
                question=each.case.example.question,
                answer=each.answer.text,
            ),
            each.case.context.context_id,
            read_facts,
            inquiry.facts_tokens,
            cut="never",
        )
        for each in trials
    ]
    for each, word in zip(trials, ask_all(asks, bench), strict=True):
        each.listed = word
    for of_case in _by_case(trials):
        wanted = [fact for each in of_case for fact in each.facts]
        found = iter(nearest(wanted, of_case[0].case.context, inquiry.chunk_tokens, inquiry.nearest, bench))
        for each in of_case:
            each.passages = [next(found) for _ in each.facts]


def _judge_facts(batch: Iterable[tuple[Trial, int]], inquiry: Inquiry, bench: Bench) -> None:
    """Verdicts on the next facts of each trial, so many of each."""
    wanted = [(each, len(each.verdicts) + step) for each, count in batch for step in range(count)]
    words = ask_all([_ask_support(each, place, inquiry, bench) for each, place in wanted], bench)
    for (each, _), word in zip(wanted, words, strict=True):
        each.verdicts.append(word)


def _ask_support(trial: Trial, place: int, inquiry: Inquiry, bench: Bench) -> Ask[float]:
    judge, _ = judge_of(bench)
    context = trial.case.context
    prompt = judge_prompt(
        "support",
        trial.case.example.language,
        judge.prompts,
        passages="\n\n".join(context.text[start:end].strip() for start, end in trial.passages[place]),
        statement=trial.facts[place],
    )
    variant = 0 if inquiry.share else 1 + trial.answer.sample_index
    form = Form("choice", tuple(f"[[{label}]]" for label in _LABELS)) if judge.prompts == "terse" else None
    return Ask("support", prompt, context.context_id, read_support, inquiry.support_tokens, form, variant)


def _by_case(trials: Sequence[Trial]) -> list[list[Trial]]:
    cases: dict[str, list[Trial]] = {}
    for each in trials:
        cases.setdefault(each.case.example.example_id, []).append(each)
    return list(cases.values())
