"""Pairwise: the judge compares answers of one question two at a time. A baseline, not a dimension of LongReward.

Each answer meets some of the others, in both orders, without the context; it wins a duel when both orders say so, and
a duel whose orders disagree is a tie, because such a judge looks at the place and not at the answer. The score is 10 x
the mean over its duels of 1 for a win, 0.5 for a tie and 0 for a loss. Who meets whom is seeded and fair: the answers
stand in a ring, in an order drawn from the seed, and each meets its nearest, so that all have the same number of duels
(one more than asked for where both it and the number of answers are odd).

Defined at the edges: answers with the same text are one in the ring and have the same score; a duel for which the
judge has no usable word in one order takes no part; an answer without any duel has no score ("no_opponent"), nor has
one whose duels all lack a word (the reason of the first).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from infra.canonical import fingerprint
from infra.recipe import Positive, Recipe, RecipeSection
from tasks.judging.asking import judge_prompt, judge_settings
from tasks.judging.context import AnsweredQuestion, ScoringContext
from tasks.judging.replies import read_duel
from tasks.judging.steps import JudgeQuery, ReplyForm, Steps, Verdict, ask
from tasks.records.example import Answer, Judgement
from tasks.scoring import DIGITS, Scorer

NAME = "pairwise"
_FORM = ReplyForm("choice", ("[[A]]", "[[B]]", "[[C]]"))


class PairwiseSettings(RecipeSection):
    """How many duels there are, and how the judge is asked."""

    opponents: Positive = Field(3, description="other answers that each answer meets; all of them when there are few")
    max_tokens: Positive = Field(64, description="longest reply of the judge, in tokens: the verdict stands alone")


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


def score(questions: Sequence[AnsweredQuestion], settings: PairwiseSettings, scoring: ScoringContext) -> Steps:
    """One judgement for each answer; evidence {"duels": [{"against", "first_order", "second_order", "reason"?}]}.

    `first_order` is the judge's verdict when this answer stood first (A: it is better), `second_order` when it stood
    second (B: it is better); null, with the reason, where there is none.
    """
    meetings: list[tuple[AnsweredQuestion, Answer, Answer]] = []
    queries = []
    for question in questions:
        ring = _ring(question, scoring.recipe.seed)
        for place, other_place in duels(len(ring), settings.opponents):
            first, second = ring[place], ring[other_place]
            meetings.append((question, first, second))
            queries.append(_query(question, first, second, settings, scoring))
            queries.append(_query(question, second, first, settings, scoring))
    verdicts = yield from ask(queries, "duels")
    # Both orders of a meeting stand beside each other: [::2] and [1::2].
    duels_by_text: dict[tuple[str, str], list[Duel]] = {}
    for (question, one, other), first_order, second_order in zip(meetings, verdicts[::2], verdicts[1::2], strict=True):
        name = question.example.example_id
        of_one = duels_by_text.setdefault((name, one.text.strip()), [])
        of_one.append(Duel(other.sample_index, first_order, second_order))
        of_other = duels_by_text.setdefault((name, other.text.strip()), [])
        of_other.append(Duel(one.sample_index, second_order, first_order))
    judgements = []
    for question in questions:
        for answer in question.answers:
            of_answer = duels_by_text.get((question.example.example_id, answer.text.strip()), [])
            judgements.append(_judgement(answer, of_answer))
    return judgements


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


def _ring(question: AnsweredQuestion, seed: int) -> list[Answer]:
    """Of each text the first answer that has it, in an order that depends on the seed and the texts alone."""
    texts: dict[str, Answer] = {}
    for answer in sorted(question.answers, key=lambda answer: answer.sample_index):
        texts.setdefault(answer.text.strip(), answer)
    name = question.example.example_id
    return [texts[text] for text in sorted(texts, key=lambda text: fingerprint([seed, name, NAME, text]))]


def _query(
    question: AnsweredQuestion, first: Answer, second: Answer, settings: PairwiseSettings, scoring: ScoringContext
) -> JudgeQuery[str]:
    values = {"question": question.example.question, "first": first.text.strip(), "second": second.text.strip()}
    prompt = judge_prompt(NAME, question.example.language, judge_settings(scoring).prompts, **values)
    subject = f"question {first.example_id}, answers {first.sample_index} and {second.sample_index}"
    return JudgeQuery(NAME, prompt, question.context.context_id, read_duel, settings.max_tokens, _FORM, subject=subject)


def _judgement(answer: Answer, of_answer: Sequence[Duel]) -> Judgement:
    ordered = sorted(of_answer, key=lambda duel: duel.opponent)
    points = [duel.points for duel in ordered if duel.points is not None]
    missing = next((duel.missing_reason for duel in ordered if duel.missing_reason), "no_opponent")
    keys: list[str] = []
    for duel in ordered:
        keys.extend((*duel.first.keys, *duel.second.keys))
    score = round(10 * sum(points) / len(points), DIGITS) if points else None
    evidence = {"duels": [_evidence(duel) for duel in ordered]}
    return answer.judged(NAME, score, None if points else missing, evidence, keys)


def _evidence(duel: Duel) -> dict[str, Any]:
    evidence = {"against": duel.opponent, "first_order": duel.first.value, "second_order": duel.second.value}
    return evidence | ({"reason": duel.missing_reason} if duel.missing_reason else {})


def calls(settings: PairwiseSettings, recipe: Recipe, context_tokens: int) -> Mapping[str, float]:
    """Judge calls for one question, by kind, if all its answers differ."""
    return {NAME: 2.0 * len(duels(recipe.sampling.samples, settings.opponents))}


def prompts(settings: PairwiseSettings, recipe: Recipe) -> tuple[str, ...]:
    """The prompt file that is used."""
    return (f"judge-{recipe.judge.prompts}-pairwise",) if recipe.judge else ()


SCORER = Scorer(NAME, PairwiseSettings, score, needs_judge=True, calls=calls, prompts=prompts)
