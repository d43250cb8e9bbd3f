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

from infra.canonical import canonical, fingerprint
from infra.recipe import Positive, Recipe, RecipeSection
from tasks.judging.asking import JudgeQuery, ReplyForm, Verdict, ask_all, judge_of, judge_prompt
from tasks.judging.rating import no_text_reason, unscored
from tasks.judging.replies import read_duel
from tasks.records.example import Answer, Judgement
from tasks.scoring import DIGITS, AnsweredQuestion, Scorer, ScoringContext

NAME = "pairwise"
_FORM = ReplyForm("choice", ("[[A]]", "[[B]]", "[[C]]"))


class PairwiseSettings(RecipeSection):
    """How many duels there are, and how the judge is asked."""

    opponents: Positive = Field(3, description="other answers that each answer meets; all of them when there are few")
    max_tokens: Positive = Field(64, description="longest reply of the judge, in tokens: the verdict stands alone")


@dataclass(frozen=True, slots=True)
class Duel:
    """An answer's duel with another as it looks from its own side: the words when it stood first, and second."""

    against: int  # sample_index
    first: Verdict[str]
    second: Verdict[str]

    def points(self) -> float | None:
        """1 for a win, 0 for a loss, 0.5 for a tie; null when the judge has no word in one of the orders."""
        if self.first.value is None or self.second.value is None:
            return None
        return {"AB": 1.0, "BA": 0.0}.get(self.first.value + self.second.value, 0.5)


def judge(cases: Sequence[AnsweredQuestion], settings: PairwiseSettings, bench: ScoringContext) -> list[Judgement]:
    """One judgement for each answer; evidence {"duels": [{"against", "first_order", "second_order", "reason"?}]}.

    `first_order` is the judge's word when this answer stood first (A: it is better), `second_order` when it stood
    second (B: it is better); null, with the reason, where there is none.
    """
    rings = [_ring(case, bench.recipe.seed) for case in cases]
    meetings = [
        (case, first, second)
        for case, ring in zip(cases, rings, strict=True)
        for one, other in duels(len(ring), settings.opponents)
        for first, second in ((ring[one], ring[other]), (ring[other], ring[one]))
    ]
    words = ask_all([_ask(*each, settings, bench) for each in meetings], bench)
    # Of each meeting both orders stand side by side: [::2] and [1::2].
    fought: dict[tuple[str, str], list[Duel]] = {}
    for (case, one, other), first, second in zip(meetings[::2], words[::2], words[1::2], strict=True):
        name = case.example.example_id
        fought.setdefault((name, one.text.strip()), []).append(Duel(other.sample_index, first, second))
        fought.setdefault((name, other.text.strip()), []).append(Duel(one.sample_index, second, first))
    return [
        _judgement(answer, fought.get((case.example.example_id, answer.text.strip()), []))
        for case in cases
        for answer in case.answers
    ]


def duels(count: int, opponents: int) -> list[tuple[int, int]]:
    """Who of `count` in a ring meets whom: each the same number of others, `opponents` or all, in sorted pairs."""
    each = min(opponents + opponents * count % 2, count - 1)
    steps = [*range(1, each // 2 + 1), *([count // 2] if each % 2 else [])]
    return sorted({(min(a, b), max(a, b)) for a in range(count) for step in steps for b in [(a + step) % count]})


def _ring(case: AnsweredQuestion, seed: int) -> list[Answer]:
    """Of each text the first answer that has it, in an order that depends on the seed and the texts alone."""
    texts: dict[str, Answer] = {}
    for answer in sorted(case.answers, key=lambda each: each.sample_index):
        if no_text_reason(answer) is None:
            texts.setdefault(answer.text.strip(), answer)
    name = case.example.example_id
    return [texts[text] for text in sorted(texts, key=lambda text: fingerprint([seed, name, NAME, text]))]


def _ask(
    case: AnsweredQuestion, first: Answer, second: Answer, settings: PairwiseSettings, bench: ScoringContext
) -> JudgeQuery[str]:
    values = {"question": case.example.question, "first": first.text.strip(), "second": second.text.strip()}
    prompt = judge_prompt(NAME, case.example.language, judge_of(bench)[0].prompts, **values)
    return JudgeQuery(NAME, prompt, case.context.context_id, read_duel, settings.max_tokens, _FORM)


def _judgement(answer: Answer, fought: Sequence[Duel]) -> Judgement:
    if no_text_reason(answer):
        return unscored(NAME, answer)
    own = sorted(fought, key=lambda duel: duel.against)
    points = [found for duel in own if (found := duel.points()) is not None]
    missing = next((reason for duel in own if (reason := _missing(duel))), "no_opponent")
    return Judgement(
        answer.example_id,
        answer.sample_index,
        NAME,
        round(10 * sum(points) / len(points), DIGITS) if points else None,
        None if points else missing,
        canonical({"duels": [_evidence(duel) for duel in own]}).decode(),
        tuple(key for duel in own for word in (duel.first, duel.second) for key in word.keys),
    )


def _missing(duel: Duel) -> str | None:
    return duel.first.reason or duel.second.reason


def _evidence(duel: Duel) -> dict[str, Any]:
    told = {"against": duel.against, "first_order": duel.first.value, "second_order": duel.second.value}
    return told | ({"reason": reason} if (reason := _missing(duel)) else {})


def calls(settings: PairwiseSettings, recipe: Recipe, context_tokens: int) -> Mapping[str, float]:
    """Judge calls for one question, by kind, if all its answers differ."""
    return {NAME: 2.0 * len(duels(recipe.sampling.samples, settings.opponents))}


def prompts(settings: PairwiseSettings, recipe: Recipe) -> tuple[str, ...]:
    """The prompt file that is used."""
    return (f"judge-{recipe.judge.prompts}-pairwise",) if recipe.judge else ()


SCORER = Scorer(NAME, PairwiseSettings, judge, needs_judge=True, calls=calls, prompts=prompts)
