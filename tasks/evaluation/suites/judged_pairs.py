"""Win rate of a model over the first one: a judge compares both answers to the same question, in both orders.

A win is 1, a tie 0.5, a loss 0; answers of which one is better in one order alone are a tie, since such a judge looks
at the place and not at the answer. Answers with the same text are a tie without a call. The first model's own rate is
0.5 by definition. An answer of the first model that is not there is missing: "no_baseline".

`length_controlled` takes out the judge's liking for length, as AlpacaEval 2 does (Dubois et al., 2024,
arXiv 2404.04475): a logistic regression of the outcomes on tanh(difference in length / its standard deviation), whose
rate at no difference is given. Left out of theirs: the difficulty of the instructions, which wants many models.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from tasks.evaluation.compare import EvaluationRow
from tasks.evaluation.judged import role_of
from tasks.evaluation.suites import JudgedSettings, Score, Scores, Suite, SuiteAnswer, SuiteJudge, SuiteQuestion
from tasks.judging.asking import judge_prompt, judge_settings
from tasks.judging.context import ScoringContext
from tasks.judging.replies import read_duel
from tasks.judging.steps import JudgeQuery, ReplyForm, Step, ask

METRIC = "win_rate"
_FORM = ReplyForm("choice", ("[[A]]", "[[B]]", "[[C]]"))
_POINTS = {"AB": 1.0, "BA": 0.0}  # of the model, by the verdicts when its answer stood first, and second
_PENALTY = 1e-2  # on the squares of both weights: without it, outcomes that are all alike have no solution
_STEPS = 50


def _judged(
    answers: Sequence[SuiteAnswer], settings: JudgedSettings, scoring: ScoringContext
) -> Generator[Step, Any, Sequence[Scores]]:
    scores: list[Scores] = []
    places: list[int] = []
    queries: list[JudgeQuery[str]] = []
    for place, answer in enumerate(answers):
        scores.append({METRIC: Score(0.5)})
        if answer.baseline is None or answer.baseline.strip() == answer.text.strip():
            continue
        if not answer.baseline.strip():
            scores[place] = {METRIC: Score(None, "no_baseline")}
            continue
        places.append(place)
        queries.append(_duel(answer, answer.text, answer.baseline, settings, scoring))
        queries.append(_duel(answer, answer.baseline, answer.text, settings, scoring))
    verdicts = yield from ask(queries, "duels", role_of(settings))
    for place, first, second in zip(places, verdicts[::2], verdicts[1::2], strict=True):
        if first.value is None or second.value is None:
            scores[place] = {METRIC: Score(None, f"judge_{first.reason or second.reason}")}
        else:
            scores[place] = {METRIC: Score(_POINTS.get(first.value + second.value, 0.5))}
    return scores


def _empty(answer: SuiteAnswer) -> Scores:
    """An answer without text loses, but for the first model's own."""
    if answer.baseline is None:
        return {METRIC: Score(0.5)}
    return {METRIC: Score(0.0) if answer.baseline.strip() else Score(None, "no_baseline")}


def _duel(
    answer: SuiteAnswer, first: str, second: str, settings: JudgedSettings, scoring: ScoringContext
) -> JudgeQuery[str]:
    values = {"question": answer.example.question, "first": first.strip(), "second": second.strip()}
    prompts = judge_settings(scoring, role_of(settings)).prompts
    return JudgeQuery(
        "evaluate_pairwise",
        judge_prompt("pairwise", answer.example.language, prompts, **values),
        answer.example.example_id,
        partial(read_duel, material="\n".join(values.values())),
        settings.judge_tokens,
        _FORM,
        subject=f"question {answer.example.example_id}",
    )


def _summary(
    rows: Sequence[EvaluationRow], baseline: Sequence[EvaluationRow] | None, settings: Any
) -> Mapping[str, float | None]:
    if baseline is None:
        return {}
    first = {row.example_id: row.answer for row in baseline}
    outcomes: list[float] = []
    differences: list[int] = []
    for row in rows:
        outcome = row.scores.get(METRIC)
        if outcome is not None:
            outcomes.append(outcome)
            differences.append(len(row.answer) - len(first[row.example_id]))
    return {"length_controlled": length_controlled(outcomes, differences)}


def length_controlled(outcomes: Sequence[float], differences: Sequence[float]) -> float | None:
    """The win rate at no difference in length, in [0, 1]; None without outcomes.

    `outcomes` are 1, 0.5 or 0, `differences` in length those of the model to the first one, in characters.
    """
    if not outcomes:
        return None
    won, difference = np.asarray(outcomes, np.float64), np.asarray(differences, np.float64)
    deviation = difference.std() or 1.0
    inputs = np.stack([np.ones_like(won), np.tanh(difference / deviation)], axis=1)
    penalty = _PENALTY * np.eye(2)
    weights = np.zeros(2)
    for _ in range(_STEPS):  # Newton's method
        expected = 1 / (1 + np.exp(-inputs @ weights))
        gradient = inputs.T @ (won - expected) - penalty @ weights
        curvature = (inputs * (expected * (1 - expected))[:, None]).T @ inputs + penalty
        step = np.linalg.solve(curvature, gradient)
        weights += step
        if float(np.abs(step).max()) < 1e-10:
            break
    return 1 / (1 + math.exp(-float(weights[0])))


def _by_kind(question: SuiteQuestion, settings: Any, seed: int) -> SuiteQuestion:
    return SuiteQuestion(question.example, question.context, question.example.kind)


SUITE = Suite(
    "judged_pairs",
    about="win rate of a model over the first one, in both orders, and controlled for length",
    settings=JudgedSettings,
    needs_references=False,
    prepare=_by_kind,
    compares=True,
    judge=SuiteJudge((METRIC,), _judged, "2, none for the first model", _empty),
    summary=_summary,
)
