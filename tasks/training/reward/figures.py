"""How well a reward model does on held-out contexts: all that the card, the table and figures.json say.

Pairs are all pairs of answers to a question with different judged rewards. Accuracy is the share of pairs that the
model orders as the judge does (a tie counts half), of each question first, so that long lists of pairs weigh no more.
Correlations are Spearman's, within each question, so that hard questions cannot make them. The probability of a pair is
sigmoid(difference / T); T is fitted on one half of the held-out contexts and measured on the other, both ways.
Intervals are bootstrap intervals over questions. Leaves out: significance between two models.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.canonical import fingerprint
from tasks.evaluation.statistics import mean_interval
from tasks.reporting.judge_report import spearman
from tasks.training.reward.judged import REWARD
from tasks.training.reward.passes import reward_pairs

MARGINS = (0.5, 1.0, 2.0, 4.0)  # inner edges of the margins' ranges, on the scale of the judged reward
RESAMPLES, SEED = 2000, 0
_BINS = 5  # of probabilities from 0.5 to 1
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class ScoredQuestion:
    """A held-out question with what the judge and the model say of each answer; `heads` are the model's numbers."""

    context_id: str
    prompt_tokens: int
    answer_tokens: tuple[int, ...]
    judged: tuple[tuple[float | None, ...], ...]  # scores by head
    rewards: tuple[float | None, ...]
    heads: tuple[tuple[float, ...], ...]

    @property
    def predicted(self) -> list[float]:
        """The model's reward of each answer."""
        return [sum(heads) / len(heads) for heads in self.heads]


def held_out_figures(questions: Sequence[ScoredQuestion], heads: Sequence[str]) -> dict[str, Any]:
    """JSON-ready figures; empty where there is no held-out question."""
    if not questions:
        return {}
    pairs = [_pairs_of(question) for question in questions]
    return {
        "questions": len(questions),
        "answers": sum(len(question.rewards) for question in questions),
        "contexts": len({question.context_id for question in questions}),
        "pairs": sum(len(of_question) for of_question in pairs),
        "accuracy": _accuracy(pairs),
        "accuracy_by_margin": _by_margin(pairs),
        "accuracy_by_prompt_tokens": _by_length(questions, pairs),
        "longer_answer_is_better": _accuracy(_longer_wins(questions)),
        "spearman": _correlations(questions, heads),
        "error": {} if list(heads) == [REWARD] else _errors(questions, heads),  # its scale is its own
        "calibration": _calibration(questions, pairs),
        "length_bias": _length_bias(questions),
        "best_of_n": _best_of_n(questions),
    }


@dataclass(frozen=True, slots=True)
class _PairScore:
    """Two answers: how much better the judge finds the better one, and how much better the model does."""

    margin: float
    difference: float

    @property
    def right(self) -> float:
        return 0.5 if self.difference == 0 else float(self.difference > 0)


def _pairs_of(question: ScoredQuestion, values: Sequence[float] | None = None) -> list[_PairScore]:
    predicted = values if values is not None else question.predicted
    pairs = []
    for better, worse in reward_pairs(question.rewards):
        high, low = question.rewards[better], question.rewards[worse]
        assert high is not None and low is not None  # of a pair
        pairs.append(_PairScore(high - low, predicted[better] - predicted[worse]))
    return pairs


def _longer_wins(questions: Sequence[ScoredQuestion]) -> list[list[_PairScore]]:
    return [_pairs_of(question, [float(tokens) for tokens in question.answer_tokens]) for question in questions]


def _accuracy(pairs: Sequence[Sequence[_PairScore]]) -> dict[str, Any]:
    shares = [sum(pair.right for pair in of_question) / len(of_question) for of_question in pairs if of_question]
    return asdict(mean_interval(shares, RESAMPLES, SEED)) | {"pairs": sum(map(len, pairs))}


def _by_margin(pairs: Sequence[Sequence[_PairScore]]) -> list[dict[str, Any]]:
    rows = []
    for low, high in zip((0.0, *MARGINS), (*MARGINS, float("inf")), strict=True):
        inside = [[pair for pair in of_question if low < pair.margin <= high] for of_question in pairs]
        if any(inside):
            rows.append({"above": low, "up_to": high if np.isfinite(high) else None, **_accuracy(inside)})
    return rows


def _by_length(questions: Sequence[ScoredQuestion], pairs: Sequence[Sequence[_PairScore]]) -> list[dict[str, Any]]:
    """By powers of two of the prompt's tokens."""
    by_end: dict[int, list[Sequence[_PairScore]]] = {}
    for question, of_question in zip(questions, pairs, strict=True):
        by_end.setdefault(1 << (question.prompt_tokens - 1).bit_length(), []).append(of_question)
    rows = []
    for end, inside in sorted(by_end.items()):
        rows.append({"up_to": end, "questions": len(inside), **_accuracy(inside)})
    return rows


def _correlations(questions: Sequence[ScoredQuestion], heads: Sequence[str]) -> dict[str, Any]:
    """Of each head, and of the reward where there are several, with the judged scores."""
    figures = {}
    for place, name in enumerate(heads):
        figures[name] = _within_questions(questions, _judged(place), _predicted_head(place))
    if len(heads) > 1:
        figures["reward"] = _within_questions(questions, _rewards, _predicted)
    return figures


Values = Callable[[ScoredQuestion], Sequence[float | None]]


def _judged(place: int) -> Values:
    return lambda question: [scores[place] for scores in question.judged]


def _predicted_head(place: int) -> Values:
    return lambda question: [heads[place] for heads in question.heads]


def _rewards(question: ScoredQuestion) -> Sequence[float | None]:
    return question.rewards


def _predicted(question: ScoredQuestion) -> Sequence[float | None]:
    return question.predicted


def _answer_tokens(question: ScoredQuestion) -> Sequence[float | None]:
    return [float(tokens) for tokens in question.answer_tokens]


def _within_questions(questions: Sequence[ScoredQuestion], first: Values, second: Values) -> dict[str, Any]:
    """The mean over questions of Spearman's correlation within each, with its interval; `n` questions have one."""
    correlations = []
    for question in questions:
        there = _both(first(question), second(question))
        correlation = spearman([one for one, _ in there], [other for _, other in there])
        if correlation is not None:
            correlations.append(correlation)
    return asdict(mean_interval(correlations, RESAMPLES, SEED))


def _both(first: Sequence[float | None], second: Sequence[float | None]) -> list[tuple[float, float]]:
    there = []
    for one, other in zip(first, second, strict=True):
        if one is not None and other is not None:
            there.append((one, other))
    return there


def _errors(questions: Sequence[ScoredQuestion], heads: Sequence[str]) -> dict[str, Any]:
    """Of each head the mean absolute error, beside that of the head's mean score; on the judge's scale."""
    figures = {}
    for place, name in enumerate(heads):
        there: list[tuple[float, float]] = []
        for question in questions:
            there += _both(_judged(place)(question), _predicted_head(place)(question))
        if not there:
            continue
        judged, predicted = np.array(there).T
        figures[name] = {
            "mean_absolute": round(float(np.abs(judged - predicted).mean()), _DIGITS),
            "of_the_mean": round(float(np.abs(judged - judged.mean()).mean()), _DIGITS),
            "answers": len(there),
        }
    return figures


def _calibration(questions: Sequence[ScoredQuestion], pairs: Sequence[Sequence[_PairScore]]) -> dict[str, Any]:
    """Of a pair's probability; and of the reward: the line from the model's to the judged reward, and what is left."""
    halves: tuple[list[Sequence[_PairScore]], list[Sequence[_PairScore]]] = ([], [])
    for question, of_question in zip(questions, pairs, strict=True):
        if of_question:
            halves[int(fingerprint(["calibration", question.context_id])[:8], 16) % 2].append(of_question)
    figures: dict[str, Any] = {"reward": _line(questions)}
    everything = [*halves[0], *halves[1]]
    if not everything:
        return figures
    figures["temperature"] = round(_temperature(everything), 6)
    if not (halves[0] and halves[1]):
        return figures
    probabilities, right, weights = [], [], []
    for fitted, measured in (halves, halves[::-1]):
        temperature = _temperature(fitted)
        for of_question in measured:
            for pair in of_question:
                probabilities.append(float(_sigmoid(np.array(abs(pair.difference) / temperature))))
                right.append(pair.right)
                weights.append(1 / len(of_question))
    return figures | _reliability(np.array(probabilities), np.array(right), np.array(weights))


def _reliability(
    probabilities: NDArray[np.float64], right: NDArray[np.float64], weights: NDArray[np.float64]
) -> dict[str, Any]:
    """Expected calibration error, Brier score and bins; of the answer that the model prefers."""
    places = np.minimum(((probabilities - 0.5) * 2 * _BINS).astype(int), _BINS - 1)
    bins, error = [], 0.0
    for place in range(_BINS):
        inside = places == place
        share = float(weights[inside].sum() / weights.sum())
        if share == 0:
            continue
        stated = float(np.average(probabilities[inside], weights=weights[inside]))
        share_right = float(np.average(right[inside], weights=weights[inside]))
        error += share * abs(stated - share_right)
        bins.append(
            {
                "above": round(0.5 + place / (2 * _BINS), 2),
                "pairs": int(inside.sum()),
                "probability": round(stated, _DIGITS),
                "accuracy": round(share_right, _DIGITS),
            }
        )
    brier = float(np.average((probabilities - right) ** 2, weights=weights))
    return {"expected_error": round(error, _DIGITS), "brier": round(brier, _DIGITS), "bins": bins}


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(values, -500, 500)))
    return result


def _temperature(pairs: Sequence[Sequence[_PairScore]]) -> float:
    """The T that makes the judge's order likeliest; each question weighs the same. Searched on a fine grid of log T."""
    differences, weights = [], []
    for of_question in pairs:
        for pair in of_question:
            differences.append(pair.difference)
            weights.append(1 / len(of_question))
    values, shares = np.array(differences), np.array(weights)
    scale = float(np.abs(values).mean()) or 1.0
    best, least = scale, np.inf
    for exponent in np.linspace(-4, 4, 321):
        temperature = scale * 10**exponent
        loss = float((shares * np.logaddexp(0, -values / temperature)).sum())
        if loss < least:
            best, least = temperature, loss
    return best


def _line(questions: Sequence[ScoredQuestion]) -> dict[str, Any] | None:
    """judged = slope x predicted + intercept by least squares, and the spread of what is left; for further stages."""
    there: list[tuple[float, float]] = []
    for question in questions:
        there += _both(question.rewards, question.predicted)
    if len(there) < 3:
        return None
    judged, predicted = np.array(there).T
    slope, intercept = _least_squares(predicted, judged)
    spread = float((judged - slope * predicted - intercept).std())
    return {
        "slope": round(slope, 6),
        "intercept": round(intercept, 6),
        "spread": round(spread, 6),
        "answers": len(there),
    }


def _least_squares(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    variance = float(x.var())
    slope = float(((x - x.mean()) * (y - y.mean())).mean()) / variance if variance > 0 else 0.0
    return slope, float(y.mean()) - slope * float(x.mean())


def _length_bias(questions: Sequence[ScoredQuestion]) -> dict[str, Any]:
    """Correlation with the answer's tokens: of the model's reward, of the judged one, and of the model's error."""
    line = _line(questions)

    def error(question: ScoredQuestion) -> Sequence[float | None]:
        assert line is not None  # see below
        errors: list[float | None] = []
        for judged, predicted in zip(question.rewards, question.predicted, strict=True):
            errors.append(None if judged is None else line["slope"] * predicted + line["intercept"] - judged)
        return errors

    figures = {
        "reward": _within_questions(questions, _predicted, _answer_tokens),
        "judged": _within_questions(questions, _rewards, _answer_tokens),
    }
    if line is not None:
        figures["error"] = _within_questions(questions, error, _answer_tokens)
    return figures


def _best_of_n(questions: Sequence[ScoredQuestion]) -> dict[str, Any]:
    """The judged reward of the answer that the model likes best, beside the best, the mean and the worst one."""
    picked, best, mean, worst = [], [], [], []
    for question in questions:
        there = _both(question.rewards, question.predicted)
        if len(there) < 2:
            continue
        judged = [reward for reward, _ in there]
        picked.append(max(there, key=lambda pair: pair[1])[0])
        best.append(max(judged))
        mean.append(sum(judged) / len(judged))
        worst.append(min(judged))
    columns: Mapping[str, Sequence[float]] = {"picked": picked, "best": best, "mean": mean, "worst": worst}
    return {name: asdict(mean_interval(values, RESAMPLES, SEED)) for name, values in columns.items()}
