"""A cascade's calibration: what its stages say of the judge, and how much confidence is enough.

Made from questions that the judge has judged in full. Two things are fitted: the models of the stages, by least squares
within questions; and the confidence from which on the judge need not be asked. For the second, the cascade is replayed
on each question with models fitted on other questions (five folds), and it is counted how often its best and worst
answers are the judge's. From the strictest confidence downwards, each one is accepted as long as a binomial test says,
at 5%, that the agreement is at least the wanted one; the last accepted is taken (fixed-sequence testing, "Learn then
test", Angelopoulos et al. 2021). So in 19 of 20 calibrations the promise holds, whatever the errors look like, for
questions, answers and a judge like those of the calibration.

A calibration is a JSON file in the store, named by the hash of its content.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from infra.canonical import text_id
from infra.errors import InputError, RecipeError
from infra.recipe import Recipe
from infra.store import Store
from tasks.judging.cascade import (
    CERTAIN,
    Candidate,
    Decision,
    StageModel,
    StageModels,
    decide,
    with_parts,
    with_rewards,
)
from tasks.judging.named_by_content import read_named, write_named

FOLDER = "cascades"  # in the store
KEY = "scoring.cascade.calibration"
REMEDY = "make one with `longmill agreement DATASET --cascade RECIPE`, and name it in the recipe"
JUDGE = "judge"  # the last stage
IN_PART = "judge in part"  # the one before, where some of the judge's scorers come last
FOLDS = 5
RISK = 0.05  # of a calibration that promises too much
_DIGITS = 6
_STRICT = (0.9999, 0.9995, 0.999, 0.998, 0.995, 0.99, 0.985, 0.98, 0.97, 0.96, 0.95, 0.94, 0.92, 0.9)
THRESHOLDS = (*_STRICT, 0.88, 0.85, 0.82, 0.78, 0.74, 0.7, 0.65, 0.6, 0.55, 0.5)


@dataclass(frozen=True, slots=True)
class JudgedCandidates:
    """The candidates of a question, each with its scores of all stages and the judge's reward."""

    example_id: str
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """Where a question stands: after a stage, or after a round of the judge."""

    stage: str
    decision: Decision
    judged: int  # candidates, in part or in full
    judged_last: int  # candidates that the judge's last scorers were asked about
    agrees: bool


@dataclass(frozen=True, slots=True)
class Operating:
    """A confidence, and what the cascade did with it on the questions of the calibration. Shares are of 1.

    `answers_last`, `reached_last`: the same for the judge's scorers that come last; null where none does.
    """

    threshold: float
    questions: int
    agreeing: int
    answers: float  # share of the answers that the judge is asked about
    reached: float  # share of the questions with such an answer
    decided: Mapping[str, float]  # by stage: share of the questions that end there
    answers_last: float | None = None
    reached_last: float | None = None

    @property
    def agreement(self) -> float:
        return self.agreeing / self.questions


@dataclass(frozen=True, slots=True)
class CascadeCalibration:
    """The stages' models, and the curve of confidences, the strictest first.

    `made_for`: the settings whose change makes it another cascade. `figures`: how it was made.
    """

    models: StageModels
    curve: tuple[Operating, ...]
    made_for: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)

    def operating(self, agreement: float) -> Operating | None:
        """The least confidence that is enough; None where none is, and every answer has to be judged."""
        chosen = None
        for point in self.curve:
            if chance_of(point.questions - point.agreeing, point.questions, 1 - agreement) > RISK:
                break
            chosen = point
        return chosen

    def write(self, store: Store) -> str:
        """Write it under the name of its content; returns the path."""
        return write_named(store, FOLDER, asdict(self))


def least_questions(agreement: float) -> int:
    """Questions without a single error that show the agreement."""
    return math.ceil(math.log(RISK) / math.log(agreement))


def fit_cascade(
    questions: Sequence[JudgedCandidates],
    stages: Sequence[str],
    made_for: Mapping[str, Any],
    agreement: float,
    some_last: bool = False,
) -> CascadeCalibration:
    """The calibration by fully judged questions. `some_last`: some of the judge's scorers come last.

    Raises InputError for too few.
    """
    useful = [question for question in questions if len(_judged(question)) > 1]
    if len(useful) < max(least_questions(agreement), FOLDS):
        raise InputError(
            f"{len(useful)} questions with two judged answers or more are too few to calibrate a cascade on: an "
            f"agreement of {agreement:g} takes {least_questions(agreement)} questions whose every answer is judged"
        )
    folds: list[list[JudgedCandidates]] = [[] for _ in range(FOLDS)]
    for question in useful:
        folds[int(text_id(f"cascade {question.example_id}")[:8], 16) % FOLDS].append(question)
    traces = []
    for held_out in range(FOLDS):
        others = [question for place, fold in enumerate(folds) if place != held_out for question in fold]
        models = fit_models(others, len(stages), some_last)
        for question in folds[held_out]:
            traces.append((len(question.candidates), list(trace(question, models, stages, some_last))))
    curve = tuple(_operating(threshold, traces, stages, some_last) for threshold in THRESHOLDS)
    return CascadeCalibration(fit_models(useful, len(stages), some_last), curve, made_for)


def fit_models(questions: Sequence[JudgedCandidates], stages: int, some_last: bool = False) -> StageModels:
    """The models for the first 0, 1, ... stages, and for the judge's word in part where `some_last` of its scorers come
    last. The limits are the lowest and the highest reward."""
    rewards = [candidate.reward or 0.0 for question in questions for candidate in _judged(question)]
    models = tuple(_fit_model(questions, count) for count in range(stages + 1 + some_last))
    return StageModels(models, min(rewards), max(rewards))


def trace(
    question: JudgedCandidates, models: StageModels, stages: Sequence[str], some_last: bool = False
) -> Iterator[Point]:
    """Where the question stands after each stage and each round of the judge, to the certain end."""
    for count, stage in enumerate(stages, 1):
        candidates = unjudged(question.candidates, count)
        decision = decide(candidates, models, some_last=some_last)
        yield Point(stage, decision, 0, 0, _agrees(question, decision, candidates))
    rounds = 0
    judged_last: set[int] = set()
    while decision.confidence < CERTAIN:
        to_judge = [question.candidates[place] for place in decision.ask]
        if some_last:  # who is asked for the rest, too, was asked in part before, or is now
            candidates = with_parts(candidates, decision.ask, [candidate.part for candidate in to_judge])
        if not decision.in_part:
            candidates = with_rewards(candidates, decision.ask, [candidate.reward for candidate in to_judge])
            judged_last.update(decision.ask)
        stage = IN_PART if decision.in_part else JUDGE
        rounds += 1
        decision = decide(candidates, models, rounds, some_last)
        count = sum(candidate.judged_in_part for candidate in candidates)
        yield Point(stage, decision, count, len(judged_last), _agrees(question, decision, candidates))


def end_of(points: Iterable[Point], threshold: float) -> Point:
    """Where a question ends that is asked about until it is decided with this confidence."""
    return next(point for point in points if point.decision.confidence >= threshold)


def unjudged(candidates: Sequence[Candidate], stages: int) -> list[Candidate]:
    """The candidates as they are after so many stages, before anybody is judged."""
    return [replace(one, scores=one.scores[:stages], part=None, reward=None, judged=False) for one in candidates]


def cascade_identity(recipe: Recipe) -> dict[str, Any]:
    """The settings that a calibration is for, JSON-ready."""
    identity = recipe.identity()
    cascade = recipe.scoring.cascade
    return {
        "stages": list(cascade.stages) if cascade else [],
        "scorers": identity["scoring"]["scorers"],
        "judge": identity["judge"],
        "samples": recipe.sampling.samples,
        "last": list(cascade.last) if cascade else [],
    }


def load_cascade(recipe: Recipe) -> CascadeCalibration | None:
    """The calibration that the recipe's cascade names; None without one.

    Raises RecipeError where it is another cascade's, or where its content is not what its name says.
    """
    cascade = recipe.scoring.cascade
    if cascade is None or cascade.calibration is None:
        return None
    calibration = _load(recipe.store, cascade.calibration)
    identity = cascade_identity(recipe)
    made_for = {"last": [], **calibration.made_for}  # the first calibrations had no such key
    changed = [key for key, value in identity.items() if made_for.get(key) != value]
    if changed:
        raise RecipeError(f"{KEY}: {cascade.calibration} was made with other {', '.join(changed)}; {REMEDY}")
    return calibration


def operating_point(recipe: Recipe) -> Operating | None:
    """Where the recipe's cascade works; None where it has none, or every answer is judged. Raises RecipeError."""
    calibration = load_cascade(recipe)
    if calibration is None or recipe.scoring.cascade is None:
        return None
    return calibration.operating(recipe.scoring.cascade.agreement)


@lru_cache(maxsize=8)
def _load(store_url: str, path: str) -> CascadeCalibration:
    content = read_named(store_url, path, KEY, REMEDY)
    try:
        given = content.pop("models")
        stages = tuple(StageModel(tuple(model.pop("weights")), **model) for model in given["stages"])
        models = StageModels(stages, given["low"], given["high"])
        curve = [Operating(**point) for point in content.pop("curve")]
        return CascadeCalibration(models, tuple(curve), **content)
    except (KeyError, TypeError, AttributeError) as error:
        raise RecipeError(f"{KEY}: {path} is no calibration of a cascade ({error}); {REMEDY}") from error


def _judged(question: JudgedCandidates) -> list[Candidate]:
    return [candidate for candidate in question.candidates if candidate.reward is not None]


def _fit_model(questions: Sequence[JudgedCandidates], stages: int) -> StageModel:
    """Least squares within questions: each question has a level of its own."""
    rows: list[tuple[float, ...]] = []  # the stages' scores and the reward, question by question
    starts: list[int] = []
    for question in questions:
        of_question = []
        for candidate in _judged(question):
            scores = candidate.leading_scores()[:stages]
            if len(scores) == stages:
                of_question.append((*scores, candidate.reward or 0.0))
        if len(of_question) > 1:
            starts.append(len(rows))
            rows += of_question
    if not rows:
        raise InputError(f"no question has two answers with scores of the first {stages} stages; look at their nulls")
    values = np.array(rows, np.float64)
    counts = np.diff([*starts, len(rows)])
    means = np.add.reduceat(values, starts, axis=0) / counts[:, None]
    within = values - np.repeat(means, counts, axis=0)
    weights = np.linalg.lstsq(within[:, :-1], within[:, -1], rcond=None)[0] if stages else np.zeros(0)
    errors = within[:, -1] - within[:, :-1] @ weights
    variance = float((errors**2).sum() / max(len(rows) - len(counts) - stages, 1))
    levels = means[:, -1] - means[:, :-1] @ weights
    level_variance = max(float(levels.var() - (variance / counts).mean()), 0.0)
    numbers = float(levels.mean()), math.sqrt(level_variance), math.sqrt(variance)
    level, level_spread, spread = (round(number, _DIGITS) for number in numbers)
    return StageModel(tuple(round(float(weight), _DIGITS) for weight in weights), level, level_spread, spread)


def _agrees(question: JudgedCandidates, decision: Decision, candidates: Sequence[Candidate]) -> bool:
    """Whether best and worst are the judge's; answers of the same reward are as good as each other."""
    judged = _judged(question)
    winners = [candidate.reward for candidate in judged if candidate.may_win]
    rewards = [candidate.reward for candidate in judged]
    no_pair = len(judged) < 2 or not winners or min(rewards) == max(rewards)  # type: ignore[type-var]
    if decision.best is None or decision.worst is None:
        return no_pair
    if no_pair:  # the same where both were judged, so that it shows
        return candidates[decision.best].judged and candidates[decision.worst].judged
    best, worst = question.candidates[decision.best].reward, question.candidates[decision.worst].reward
    return best == max(winners) and worst == min(rewards)  # type: ignore[type-var]


def _operating(
    threshold: float, traces: Sequence[tuple[int, Sequence[Point]]], stages: Sequence[str], some_last: bool
) -> Operating:
    ends = [end_of(points, threshold) for _, points in traces]
    candidates = sum(count for count, _ in traces)
    decided = {}
    for stage in (*stages, IN_PART, JUDGE) if some_last else (*stages, JUDGE):
        decided[stage] = _share(sum(end.stage == stage for end in ends), len(ends))
    answers = _share(sum(end.judged for end in ends), candidates)
    reached = _share(sum(end.judged > 0 for end in ends), len(ends))
    agreeing = sum(end.agrees for end in ends)
    point = Operating(threshold, len(ends), agreeing, answers, reached, decided)
    if some_last:
        answers_last = _share(sum(end.judged_last for end in ends), candidates)
        reached_last = _share(sum(end.judged_last > 0 for end in ends), len(ends))
        point = replace(point, answers_last=answers_last, reached_last=reached_last)
    return point


def _share(count: int, of: int) -> float:
    return round(count / of, _DIGITS)


def chance_of(errors: int, trials: int, share: float) -> float:
    """The binomial probability of so many errors or fewer, each with the probability `share` within (0, 1)."""
    logs = []
    for count in range(errors + 1):
        ways = math.lgamma(trials + 1) - math.lgamma(count + 1) - math.lgamma(trials - count + 1)
        logs.append(ways + count * math.log(share) + (trials - count) * math.log1p(-share))
    return math.fsum(math.exp(log) for log in logs)
