"""Weights of scorers that are learnt from preferences, so that a reward prefers what references or people prefer.

A reward is the weighted mean of scores, and these have scales of their own: a consensus of 0 to 1 beside a reward
model's logits. The weights are those of a logistic regression on differences: the probability that the better of two
answers to a question is the better one is 1 / (1 + exp(-w · (its scores - the other's))) (Bradley and Terry 1952). No
weight is below 0, each question weighs the same, and differences are scaled by their spread before the fit, with a
little ridge. The result is a list for `scoring.scorers` and nothing else; it sums to 1.

Learnt weights flatter the questions that they were learnt on: `weights_view` learns on half of the contexts and
measures on the other half.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.canonical import seed_number
from infra.errors import InputError
from tasks.evaluation.statistics import sums_interval
from tasks.metrics import gold_value
from tasks.records.reader import read_dataset
from tasks.reporting.agreement import Labels, Preference, gold_preferences, label_preferences, read_labels
from tasks.reporting.dataset_views import EVIDENCE_COLUMNS
from tasks.reporting.judged_questions import JudgedAnswer, JudgedQuestion, questions_of_rows

Preferred = tuple[JudgedQuestion, Sequence[Preference]]
_RIDGE = 1e-3
_STEPS = 2000
_STEP = 0.5
_DIGITS = 6
_RESAMPLES, _SEED = 1000, 0


def learn_weights(questions: Iterable[Preferred], scorers: Sequence[str]) -> dict[str, float]:
    """A weight for each scorer, at least 0, sum 1. Preferences with a null score are left out.

    Raises InputError where no preference is left, or no scorer prefers the better answers.
    """
    differences, shares = [], []
    for question, preferences in questions:
        scores = {answer.index: scores_of(answer, scorers) for answer in question.answers}
        of_question = []
        for preference in preferences:
            better, worse = scores.get(preference.better), scores.get(preference.worse)
            if better is not None and worse is not None:
                of_question.append(better - worse)
        differences += of_question
        shares += [1 / max(1, len(of_question))] * len(of_question)
    if not differences:
        raise InputError("no two answers with all scores are told apart by references or labels: nothing to learn from")
    table = np.array(differences)
    spread = np.sqrt((table**2).mean(axis=0))
    spread[spread == 0] = np.inf  # a scorer that tells no two answers apart gets no weight
    weights = _fit(table / spread, np.array(shares) / sum(shares)) / spread
    if not weights.any():
        raise InputError(f"none of {', '.join(scorers)} prefers the better answers: no weights can be learnt")
    weights /= weights.sum()
    return {name: round(float(weight), _DIGITS) for name, weight in zip(scorers, weights, strict=True)}


def pick(question: JudgedQuestion, weights: Mapping[str, float]) -> JudgedAnswer | None:
    """The answer with the highest weighted sum of scores, of equals the first; None where none has all scores."""
    names = [name for name, weight in weights.items() if weight > 0]
    factors = np.array([weights[name] for name in names])
    best: tuple[float, JudgedAnswer] | None = None
    for answer in question.answers:
        scores = scores_of(answer, names)
        if scores is not None:
            reward = round(float(scores @ factors), _DIGITS)
            if best is None or reward > best[0]:
                best = (reward, answer)
    return best[1] if best else None


def scores_of(answer: JudgedAnswer, scorers: Sequence[str]) -> NDArray[np.float64] | None:
    """The answer's scores by these scorers; None where one is null."""
    values = []
    for name in scorers:
        score = answer.scores.get(name)
        if score is None or score.value is None:
            return None
        values.append(score.value)
    return np.array(values, np.float64)


def is_development(context_id: str) -> bool:
    """Whether a context's questions are learnt on; half of the contexts are, whatever the dataset."""
    return seed_number("development", context_id) % 2 == 0


def weights_view(place: str, labels: str = "") -> dict[str, Any]:
    """Weights for the scorers of the dataset at `place`, learnt on half of its contexts.

    {"dataset", "weights": {scorer: weight}, "learnt_on": questions, "measured_on": questions, "picks": {"now",
    "learnt", "oracle", "learnt - now"}: {"value", "low", "high", "n"}}: the gold value of the answer that is picked, on
    the questions of the other half. `labels`: a file of people's preferences to learn from; the picks are measured by
    references all the same, and are empty without. Raises InputError as `learn_weights`.
    """
    dataset = read_dataset(place)
    by_labels: Labels | None = read_labels(labels) if labels else None
    development: list[Preferred] = []
    others: list[JudgedQuestion] = []
    for question in questions_of_rows(dataset.rows("evidence", EVIDENCE_COLUMNS), {}):
        if is_development(question.example.context_id):
            preferences = gold_preferences(question) if by_labels is None else label_preferences(question, by_labels)[0]
            development.append((question, preferences))
        else:
            others.append(question)
    scorers = list(dataset.weights)
    weights = learn_weights(development, scorers)
    rows = []
    for question in others:
        now, learnt = pick(question, dataset.weights), pick(question, weights)
        golds = {answer.index: gold_value(answer.text, question.example) for answer in question.answers}
        best = max((gold for gold in golds.values() if gold is not None), default=None)
        if now is not None and learnt is not None and best is not None:
            rows.append([golds[now.index], golds[learnt.index], best])
    return {
        "dataset": dataset.place,
        "weights": weights,
        "learnt_on": len(development),
        "measured_on": len(rows),
        "picks": _pick_figures(np.array(rows, np.float64)) if rows else {},
    }


def _pick_figures(rows: NDArray[np.float64]) -> dict[str, Any]:
    """The means of the columns now, learnt, oracle, and the gain, with intervals over questions."""
    columns = {"now": rows[:, 0], "learnt": rows[:, 1], "oracle": rows[:, 2], "learnt - now": rows[:, 1] - rows[:, 0]}
    figures = {}
    for name, values in columns.items():
        terms = np.stack([values, np.ones(len(values))], axis=1)
        interval = sums_interval(terms, lambda sums: sums[:, 0] / sums[:, 1], len(values), _RESAMPLES, _SEED)
        figures[name] = asdict(interval)
    return figures


def _fit(table: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights of least loss that are not below 0, by projected gradient steps."""
    weights = np.zeros(table.shape[1])
    for _ in range(_STEPS):
        wrong = 1 / (1 + np.exp(table @ weights))
        weights = np.maximum(0.0, weights + _STEP * ((shares * wrong) @ table - _RIDGE * weights))
    return weights
