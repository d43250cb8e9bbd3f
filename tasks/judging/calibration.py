"""How a verifier's number becomes a verdict: a temperature, and two thresholds between the judge's three verdicts.

probability = sigmoid(number / temperature). Below `low` it is no support (0), from `high` on full support (1), between
them partial (0.5). The temperature is the one with the smallest log loss against the judge's verdicts (Guo et al.
2017), the thresholds are those with which most verdicts are the judge's. A calibration is a small JSON file in the
store, named by the hash of its content: so the recipe that names it, and the plan, say exactly which one it was.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.errors import InputError, RecipeError
from infra.recipe import Recipe
from infra.store import Store
from tasks.judging.named_by_content import read_named, write_named
from tasks.judging.verifier_settings import KEY, VerifierSettings, verifier_settings

FOLDER = "verifiers"  # in the store
DISTANCES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)  # from a threshold, for figures
LEAST_VERDICTS = 40  # that a calibration is fitted on
_DIGITS = 4
_TEMPERATURES = np.round(np.geomspace(0.05, 20, 241), _DIGITS)
_REMEDY = "make one with `longmill agreement DATASET --verifier RECIPE`, and name it in the recipe"


@dataclass(frozen=True, slots=True)
class Calibration:
    """A temperature and thresholds. `verifier`: what the numbers depend on; `figures`: how it was measured.

    `near`: by distance, the share of verdicts that lie nearer to a threshold.
    """

    temperature: float
    low: float
    high: float
    verifier: Mapping[str, Any] = field(default_factory=dict)
    near: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)

    def probability(self, logit: float) -> float:
        """The probability of support, in [0, 1]."""
        return round(1 / (1 + math.exp(-max(-60.0, min(60.0, logit / self.temperature)))), _DIGITS)

    def support(self, probability: float) -> float:
        """The verdict: 1, 0.5 or 0."""
        if probability >= self.high:
            return 1.0
        return 0.0 if probability < self.low else 0.5

    def distance(self, probability: float) -> float:
        """How far the probability is from the nearest threshold."""
        return round(min(abs(probability - self.low), abs(probability - self.high)), _DIGITS)

    def share_near(self, distance: float) -> float:
        """The share of verdicts that are expected nearer to a threshold."""
        if not self.near:
            return distance
        names = sorted(self.near, key=float)
        return float(np.interp(distance, list(map(float, names)), [self.near[name] for name in names]))

    def write(self, store: Store) -> str:
        """Write it under the name of its content; returns the path."""
        return write_named(store, FOLDER, asdict(self))


def fit_calibration(logits: Sequence[float], supports: Sequence[float], verifier: Mapping[str, Any]) -> Calibration:
    """The calibration for the numbers of statements, from the judge's verdicts on them. Raises InputError for few."""
    if len(logits) < LEAST_VERDICTS or len(set(supports)) < 2:
        raise InputError(
            f"{len(logits)} verdicts of the judge, {len(set(supports))} of them different, are too few to calibrate a "
            f"verifier on: give a dataset with {LEAST_VERDICTS} verdicts or more, some of them against a fact"
        )
    numbers, truth = np.array(logits, np.float64), np.array(supports, np.float64)
    temperature = _best_temperature(numbers, truth)
    scale = Calibration(temperature, 0.5, 0.5)
    probabilities = np.array([scale.probability(logit) for logit in logits])
    low, high = _best_thresholds(probabilities, truth)
    fitted = Calibration(temperature, low, high, dict(verifier))
    distances = np.array([fitted.distance(float(probability)) for probability in probabilities])
    near = {}
    for distance in DISTANCES:
        near[f"{distance:g}"] = round(float((distances < distance).mean()), _DIGITS)
    return Calibration(temperature, low, high, dict(verifier), near)


def load_calibration(recipe: Recipe, settings: VerifierSettings) -> Calibration:
    """The calibration that the recipe's verifier names, from the recipe's store.

    Raises RecipeError where none is named, where it is another model's, or where its content is not what its name says.
    """
    if settings.calibration is None:
        raise RecipeError(f"{KEY}.calibration: the verifier has no temperature and thresholds; {_REMEDY}")
    calibration = _load(recipe.store, settings.calibration)
    if calibration.verifier != settings.identity():
        raise RecipeError(
            f"{KEY}.calibration: {settings.calibration} was made for {calibration.verifier.get('model')!r} with other "
            f"settings than this recipe's; {_REMEDY}"
        )
    return calibration


def check_calibration(recipe: Recipe) -> None:
    """Raise RecipeError where the recipe has a verifier without a calibration that is its own."""
    settings = verifier_settings(recipe)
    if settings is not None:
        load_calibration(recipe, settings)


def expected_judge_share(recipe: Recipe, settings: VerifierSettings) -> float:
    """The share of facts that the verifier is expected to leave to the judge; for estimates, so it never raises."""
    try:
        calibration = load_calibration(recipe, settings)
    except RecipeError:
        return settings.ask_judge_within
    return calibration.share_near(settings.ask_judge_within)


@lru_cache(maxsize=8)
def _load(store_url: str, path: str) -> Calibration:
    content = read_named(store_url, path, f"{KEY}.calibration", _REMEDY)
    try:
        return Calibration(**content)
    except TypeError as error:
        raise RecipeError(f"{KEY}.calibration: {path} is no calibration ({error}); {_REMEDY}") from error


def _best_temperature(numbers: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """The temperature with the smallest log loss; the verdict 0.5 counts half for support."""
    losses = []
    for temperature in _TEMPERATURES:
        scaled = numbers / temperature
        losses.append(float(np.mean(np.logaddexp(0, scaled) - truth * scaled)))
    return float(_TEMPERATURES[int(np.argmin(losses))])


def _best_thresholds(probabilities: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[float, float]:
    """The thresholds with which most verdicts are the truth: `low` <= `high`, midway between two probabilities."""
    order = np.argsort(probabilities, kind="stable")
    values, verdicts = probabilities[order], truth[order]
    none, partial, full = verdicts == 0, verdicts == 0.5, verdicts == 1
    # right verdicts of the first n where they are "none", less those they would have as "partial"; and so for "full"
    gain_of_low = np.concatenate([[0], np.cumsum(none.astype(int) - partial)])
    gain_of_high = np.concatenate([[0], np.cumsum(partial.astype(int) - full)])
    may_cut = np.concatenate([[True], values[1:] > values[:-1], [True]])  # equal probabilities get one verdict
    best, places = -math.inf, (0, 0)
    low, low_gain = 0, -math.inf
    for place in range(len(values) + 1):
        if not may_cut[place]:
            continue
        if gain_of_low[place] > low_gain:
            low, low_gain = place, float(gain_of_low[place])
        gain = low_gain + float(gain_of_high[place])
        if gain > best:
            best, places = gain, (low, place)
    edges = [0.0, *((values[1:] + values[:-1]) / 2), 1.0 + 10**-_DIGITS]
    cuts = [round(float(edges[place]), _DIGITS + 1) for place in places]
    return cuts[0], cuts[1]
