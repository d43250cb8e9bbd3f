"""What a cascade decides: which answer of a question is best, which worst, how sure that is, and whom to ask next.

A stage's scores predict the judge's reward: reward = a question's own level + weights · scores + error. The level
cancels out between answers that nobody has judged; as soon as some are, it is estimated from them (a random effect,
shrunk by its variance). Errors are taken to be independent and logistic, with the spread that was measured. From that
follows how probable it is for each answer to be the best, and to be the worst; the confidence in both together is at
least P(best) + P(worst) - 1. None of this has to be true for the promise to hold: the confidence that is enough is
found by replaying the same decisions on fully judged questions (`cascade_calibration.py`).

While the confidence is too low, the judge is asked about the answers that most probably are best or worst, one of each
side at first and more in each later round, so that there are few rounds. Everything is a function of the scores, the
rewards so far and the calibration: another machine, shard or run decides the same.

Where a scorer of the judge's is dear once for a question (completeness has the whole context read), it comes last: the
mean of the judge's other scores, its word in part, is one more score that predicts the reward. It is asked for as long
as an answer without it may be best or worst; only then does the judge say the rest, of the answers that are still open.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_GRID = 129  # points of an integral
_REACH = 12.0  # of the grid, in spreads
_LOGISTIC = float(np.pi / np.sqrt(3))  # a logistic variable of scale 1 has this standard deviation
_LEAST_SPREAD = 1e-4
_DIGITS = 6  # of a confidence: beyond them, machines differ
_ONE_SIDED = 0.1  # a side with less than this share of the other's doubt is not asked about
_HOPELESS = 0.03  # who is best or worst with less probability is not worth the judge's word in part
CERTAIN = 1.0


@dataclass(frozen=True, slots=True)
class StageModel:
    """What the first stages' scores say of the judge's reward. Spreads are standard deviations, in rewards."""

    weights: tuple[float, ...]  # one for each stage so far, then of the judge's word in part
    level: float  # mean over questions of reward - weights · scores
    level_spread: float  # of it, between questions
    spread: float  # of the errors, within a question


@dataclass(frozen=True, slots=True)
class StageModels:
    """The models for no stage, the first, the first two, ..., and the limits of the judge's rewards.

    Where scorers come last, one more model has the judge's word in part.

    Judges often give several answers the highest reward that there is: each of these is best, whatever the rest gets.
    """

    stages: tuple[StageModel, ...]
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """One text among the answers to a question. `judged` without a reward: it takes no part any more.

    `part`: the mean of the judge's scores without those that come last; null until it is asked for.
    """

    name: str  # of equal rewards the first name stands first
    scores: tuple[float | None, ...]  # of the stages so far
    cut_off: bool = False  # and so never chosen
    unfounded: bool = False  # a refusal that the judge has found out: never chosen either
    reward: float | None = None  # the judge's
    judged: bool = False
    part: float | None = None

    @property
    def judged_in_part(self) -> bool:
        return self.judged or self.part is not None

    @property
    def may_win(self) -> bool:
        return not (self.cut_off or (self.judged_in_part and self.unfounded))

    def leading_scores(self) -> list[float]:
        """The scores before the first that is null, the judge's word in part the last."""
        scores: list[float] = []
        for score in (*self.scores, self.part):
            if score is None:
                break
            scores.append(score)
        return scores


@dataclass(frozen=True, slots=True)
class Decision:
    """The best and the worst candidate by their places; None where there can be no pair.

    `ask`: whom to judge next; `in_part`: by the scorers alone that do not come last.
    """

    best: int | None
    worst: int | None
    confidence: float
    ask: tuple[int, ...] = ()
    in_part: bool = False


@dataclass(frozen=True, slots=True)
class Prediction:
    """The middle of what a candidate's reward may be before the limits, its spread, and the reward that is expected."""

    middle: float
    spread: float
    reward: float


def predict(candidates: Sequence[Candidate], models: StageModels) -> list[Prediction]:
    """The judge's reward of each candidate, as the stages predict it; judged ones tell the question's level.

    A candidate without the score of a stage is predicted by the stages before it.
    """
    depths = [len(candidate.leading_scores()) for candidate in candidates]
    means = [_mean_at(candidate, depth, models) for candidate, depth in zip(candidates, depths, strict=True)]
    levels = {depth: _level_shift(depth, candidates, depths, means, models) for depth in dict.fromkeys(depths)}
    predictions = []
    for depth, mean in zip(depths, means, strict=True):
        shift, level_variance = levels[depth]
        spread = float(np.sqrt(max(models.stages[depth].spread, _LEAST_SPREAD) ** 2 + level_variance))
        predictions.append(Prediction(mean + shift, spread, _within_limits(mean + shift, spread, models)))
    return predictions


def _mean_at(candidate: Candidate, depth: int, models: StageModels) -> float:
    """What the first scores of a candidate say, by the model for so many of them."""
    model = models.stages[depth]
    scores = candidate.leading_scores()[:depth]
    return float(model.level + sum(weight * score for weight, score in zip(model.weights, scores, strict=True)))


def _level_shift(
    depth: int, candidates: Sequence[Candidate], depths: Sequence[int], means: Sequence[float], models: StageModels
) -> tuple[float, float]:
    """How far a question's level lies above a model's, by the candidates that the judge knows more of; its variance.

    Where no reward is there, the judge's word in part says it, so that candidates with and without one compare.
    """
    precision = gain = 0.0
    for candidate, own_depth, mean in zip(candidates, depths, means, strict=True):
        if candidate.reward is None and (candidate.part is None or own_depth <= depth):
            continue
        shared = min(depth, own_depth)
        weight = 1 / max(models.stages[shared].spread, _LEAST_SPREAD) ** 2
        better = mean if candidate.reward is None else candidate.reward
        precision += weight
        gain += weight * (better - _mean_at(candidate, shared, models))
    level_variance = models.stages[depth].level_spread ** 2
    if not precision or not level_variance:
        return 0.0, 0.0
    left = 1 / (1 / level_variance + precision)
    return left * gain, left


def _within_limits(middle: float, spread: float, models: StageModels) -> float:
    """The mean of a logistic variable whose values beyond the limits are at the limits: it is always within them."""
    scale = spread / _LOGISTIC
    tails = [np.logaddexp(0, (limit - middle) / scale) for limit in (models.high, models.low)]
    return float(models.high - scale * (tails[0] - tails[1]))


def decide(
    candidates: Sequence[Candidate], models: StageModels, judged_rounds: int = 0, some_last: bool = False
) -> Decision:
    """Which candidate is best and which worst, as far as is known, and whom the judge would have to be asked about.

    `some_last`: some of the judge's scorers come last.
    """
    predictions = predict(candidates, models)
    running = [
        place for place, candidate in enumerate(candidates) if not candidate.judged or candidate.reward is not None
    ]
    winners = [place for place in running if candidates[place].may_win]
    if len(running) < 2 or not winners:
        return Decision(None, None, CERTAIN)
    best_odds = _odds(candidates, predictions, winners, 1, models.high)
    worst_odds = _odds(candidates, predictions, running, -1, -models.low)
    best, worst = _first(winners, candidates, predictions, -1), _first(running, candidates, predictions, 1)
    doubts = 1 - best_odds[best], 1 - worst_odds[worst]
    confidence = round(max(0.0, 1 - sum(doubts)), _DIGITS)
    if all(candidates[place].judged for place in running):
        return Decision(best, worst, CERTAIN)
    count = 1 if judged_rounds < 2 else 2 ** (judged_rounds - 1)
    doubtful = []
    for odds, doubt in zip((best_odds, worst_odds), doubts, strict=True):
        if doubt > _ONE_SIDED * sum(doubts):
            doubtful.append(odds)
    if some_last and all(candidates[place].reward is None for place in running):
        hopeful = [_hopeful(odds, candidates) for odds in doubtful]
        if ask := _of_each_side(hopeful, candidates, count):
            return Decision(best, worst, confidence, ask, in_part=True)
    ask = _of_each_side(doubtful, candidates, count) or tuple(_likeliest(worst_odds, candidates, count))
    return Decision(best, worst, confidence, ask)


def _hopeful(odds: dict[int, float], candidates: Sequence[Candidate]) -> dict[int, float]:
    """The odds of those of which the judge's word in part can still change much."""
    hopeful = {}
    for place, chance in odds.items():
        if not candidates[place].judged_in_part and round(chance, _DIGITS) >= _HOPELESS:
            hopeful[place] = chance
    return hopeful


def _of_each_side(sides: Sequence[dict[int, float]], candidates: Sequence[Candidate], count: int) -> tuple[int, ...]:
    """The places of so many unjudged candidates of each side, without repetition."""
    ask: dict[int, None] = {}  # an ordered set
    for odds in sides:
        ask.update(dict.fromkeys(_likeliest(odds, candidates, count)))
    return tuple(ask)


def with_parts(
    candidates: Sequence[Candidate], places: Sequence[int], parts: Sequence[float | None]
) -> list[Candidate]:
    """The candidates after the judge was asked in part; without a score that it needs, none gets a reward any more."""
    after = list(candidates)
    for place, part in zip(places, parts, strict=True):
        after[place] = replace(after[place], part=part, judged=part is None)
    return after


def with_rewards(
    candidates: Sequence[Candidate], places: Sequence[int], rewards: Sequence[float | None]
) -> list[Candidate]:
    """The candidates after the judge was asked about those at these places."""
    after = list(candidates)
    for place, reward in zip(places, rewards, strict=True):
        after[place] = replace(after[place], reward=reward, judged=True)
    return after


def reward_of(candidate: Candidate, prediction: Prediction) -> float:
    """The judge's reward of a candidate, or the expected one, to six decimals."""
    return round(prediction.reward, _DIGITS) if candidate.reward is None else candidate.reward


def _first(places: Sequence[int], candidates: Sequence[Candidate], predictions: Sequence[Prediction], sign: int) -> int:
    """The place that pairing takes: with the highest reward (`sign` -1) or the lowest, of equal ones the first name."""
    return min(
        places, key=lambda place: (sign * reward_of(candidates[place], predictions[place]), candidates[place].name)
    )


def _likeliest(odds: dict[int, float], candidates: Sequence[Candidate], count: int) -> list[int]:
    """The places of so many unjudged candidates, the likeliest first."""
    unjudged = [place for place in odds if not candidates[place].judged]
    return sorted(unjudged, key=lambda place: (-round(odds[place], _DIGITS), candidates[place].name))[:count]


def _odds(
    candidates: Sequence[Candidate], predictions: Sequence[Prediction], places: Sequence[int], sign: int, limit: float
) -> dict[int, float]:
    """How probable it is for each of these places that no reward is higher (`sign` 1), or lower (-1).

    `limit`: the highest reward that there is, times the sign. Several places may share it.
    """
    odds = dict.fromkeys(places, 0.0)
    unjudged = [place for place in places if not candidates[place].judged]
    highest = -np.inf  # of the judged
    first = None
    for place in places:
        reward = candidates[place].reward
        if reward is not None and (first is None or (-sign * reward, candidates[place].name) < first):
            first, highest, leader = (-sign * reward, candidates[place].name), sign * reward, place
    if not unjudged or highest >= limit:
        if first is not None:
            odds[leader] = 1.0
        return odds
    means = np.array([sign * predictions[place].middle for place in unjudged])[:, None]
    scales = np.array([predictions[place].spread for place in unjudged])[:, None] / _LOGISTIC
    below_limit = _log_below(limit, means, scales)
    left = 0.0
    if first is not None:
        left = float(np.exp(_log_below(highest, means, scales).sum()))
        odds[leader] = left
    start = max(min(float((means - _REACH * scales).min()), limit - _REACH * float(scales.max())), highest)
    grid = np.linspace(start, limit, _GRID)[None, :]
    log_below = _log_below(grid, means, scales)
    below = np.exp(log_below)
    heights = below * (1 - below) / scales * np.exp(log_below.sum(axis=0, keepdims=True) - log_below)
    areas = (heights[:, 1:] + heights[:, :-1]).sum(axis=1)
    between = max(0.0, float(np.exp(below_limit.sum())) - left)  # that the highest is above the judged, below the limit
    if areas.sum() > 0:
        areas *= between / areas.sum()
    at_limit = 1 - np.exp(below_limit[:, 0])
    for place, area, at in zip(unjudged, areas, at_limit, strict=True):
        odds[place] = float(area + at)
    return odds


def _log_below(value: float | Floats, means: Floats, scales: Floats) -> Floats:
    """The log of the probability that each reward is below a value."""
    below: Floats = -np.logaddexp(0, -(value - means) / scales)
    return below
