"""Duels of answers: who meets whom, how the judge is asked, and the score of an answer by its duels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from infra.canonical import fingerprint
from tasks.judging.asking import judge_prompt, judge_settings
from tasks.judging.context import SCORE_DIGITS, AnsweredQuestion, ScoringContext
from tasks.judging.replies import read_duel
from tasks.judging.steps import JudgeQuery, ReplyForm, Verdict
from tasks.records.example import Answer, Judgement

_STEP = "pairwise"
_FORM = ReplyForm("choice", ("[[A]]", "[[B]]", "[[C]]"))


@dataclass(frozen=True, slots=True)
class Duel:
    """An answer's duel with another, seen from its own side: the verdicts when it stood first, and second."""

    opponent: int  # sample_index
    first: Verdict[str]
    second: Verdict[str]

    @property
    def points(self) -> float | None:
        """1 for a win, 0 for a loss, 0.5 for a tie; None when the judge gave no verdict in one of the orders."""
        if self.first.value is None or self.second.value is None:
            return None
        return {"AB": 1.0, "BA": 0.0}.get(self.first.value + self.second.value, 0.5)

    @property
    def missing_reason(self) -> str | None:
        return self.first.reason or self.second.reason


def duels(count: int, opponents: int) -> list[tuple[int, int]]:
    """Who of `count` in a ring meets whom: all have the same number of opponents, `opponents` or all; sorted pairs."""
    number = min(opponents + opponents * count % 2, count - 1)
    steps = [*range(1, number // 2 + 1), *([count // 2] if number % 2 else [])]
    pairs = set()
    for place in range(count):
        for step in steps:
            other = (place + step) % count
            pairs.add((min(place, other), max(place, other)))
    return sorted(pairs)


def answer_ring(question: AnsweredQuestion, seed: int) -> list[Answer]:
    """Of each text the first answer that has it, in an order that depends on the seed and the texts alone."""
    texts: dict[str, Answer] = {}
    for answer in sorted(question.answers, key=lambda answer: answer.sample_index):
        texts.setdefault(answer.text.strip(), answer)
    name = question.example.example_id
    return [texts[text] for text in sorted(texts, key=lambda text: fingerprint([seed, name, _STEP, text]))]


def duel_query(
    question: AnsweredQuestion, first: Answer, second: Answer, max_tokens: int, scoring: ScoringContext
) -> JudgeQuery[str]:
    values = {"question": question.example.question, "first": first.text.strip(), "second": second.text.strip()}
    prompt = judge_prompt(_STEP, question.example.language, judge_settings(scoring).prompts, **values)
    subject = f"question {first.example_id}, answers {first.sample_index} and {second.sample_index}"
    read = partial(read_duel, material="\n".join(values.values()))
    return JudgeQuery(_STEP, prompt, question.context.context_id, read, max_tokens, _FORM, subject=subject)


def collect_duels(
    meetings: Sequence[tuple[Answer, Answer]], verdicts: Sequence[Verdict[str]]
) -> dict[tuple[str, str], list[Duel]]:
    """The duels of each text, by (example_id, text). `verdicts`: two for each meeting, one for each order."""
    duels_by_text: dict[tuple[str, str], list[Duel]] = {}
    for (one, other), first_order, second_order in zip(meetings, verdicts[::2], verdicts[1::2], strict=True):
        of_one = duels_by_text.setdefault((one.example_id, one.text.strip()), [])
        of_one.append(Duel(other.sample_index, first_order, second_order))
        of_other = duels_by_text.setdefault((other.example_id, other.text.strip()), [])
        of_other.append(Duel(one.sample_index, second_order, first_order))
    return duels_by_text


def duel_judgement(answer: Answer, of_answer: Sequence[Duel]) -> Judgement:
    ordered = sorted(of_answer, key=lambda duel: duel.opponent)
    points = [duel.points for duel in ordered if duel.points is not None]
    missing = next((duel.missing_reason for duel in ordered if duel.missing_reason), "no_opponent")
    keys: list[str] = []
    for duel in ordered:
        keys.extend((*duel.first.keys, *duel.second.keys))
    score = round(10 * sum(points) / len(points), SCORE_DIGITS) if points else None
    evidence = {"duels": [_evidence(duel) for duel in ordered]}
    return answer.judged(_STEP, score, None if points else missing, evidence, keys)


def _evidence(duel: Duel) -> dict[str, Any]:
    evidence = {"against": duel.opponent, "first_order": duel.first.value, "second_order": duel.second.value}
    return evidence | ({"reason": duel.missing_reason} if duel.missing_reason else {})
