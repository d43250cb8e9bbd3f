"""Figures of several models on the same questions: each beside the first, with seeds, and the best checkpoint.

A model may have been trained with several seeds: its score of a question is their mean, and the interval of its
difference to the first model spans questions and seeds. p values are corrected for the number of models (Holm).

A checkpoint is chosen on one part of the questions and reported on the other. The parts are split by context and by the
recipe's seed alone, so a question of the reported part never had a say, in whatever order models are compared.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.canonical import seed_number
from infra.errors import EvaluationError
from infra.recipe import Evaluation, Recipe
from tasks.evaluation.compare import EvaluationRow, by_question, compare, metrics_of
from tasks.evaluation.significance import crossed_interval, holm, significance, visible_words
from tasks.evaluation.statistics import Interval, mean_interval
from tasks.evaluation.suites import ActiveSuite, SuiteQuestion
from tasks.records.dataset import Split

Figures = dict[str, Any]
Matrix = NDArray[np.float64]  # [seeds, questions]
SuiteQuestions = Sequence[tuple[ActiveSuite, Sequence[SuiteQuestion]]]


@dataclass(frozen=True, slots=True)
class ModelRows:
    """A model of a comparison: its rows by training seed, and the optimiser step of a checkpoint."""

    name: str
    runs: Sequence[Sequence[EvaluationRow]]
    step: int | None = None


def several_figures(models: Sequence[ModelRows], recipe: Recipe) -> list[Figures]:
    """The figures of every model, the first being what the others are compared with; ready for JSON.

    [{"name", "step", "seeds", "suites": {label: {metric: {"figure": {"value", "low", "high", "n"}, "difference": {...,
    "p", "p_corrected", "test", "detectable", "words"} or null}}}}]

    Raises EvaluationError when the models are not about the same questions.
    """
    settings = recipe.evaluation or Evaluation()
    seed = seed_number(recipe.seed, "bootstrap")
    figures: list[Figures] = []
    for model in models:
        figures.append({"name": model.name, "step": model.step, "seeds": len(model.runs), "suites": {}})
    for label in {row.suite: None for row in models[0].runs[0]}:
        matrices = [_matrices(model, label) for model in models]
        for place, by_metric in enumerate(matrices):
            of_suite = figures[place]["suites"][label] = {}
            for metric, scores in by_metric.items():
                means = _question_means(scores)
                figure = mean_interval(means[~np.isnan(means)].tolist(), settings.resamples, seed)
                first = matrices[0].get(metric)
                difference = None
                if place and first is not None:
                    difference = _difference(first, scores, settings.resamples, seed)
                of_suite[metric] = {"figure": asdict(figure), "difference": difference}
    _correct(figures)
    return figures


def development_split(recipe: Recipe, fraction: float) -> Split:
    """Which contexts choose a checkpoint ("test" of the split's names) and which report it ("train")."""
    return Split(seed_number(recipe.seed, "development"), fraction)


def split_questions(
    questions: SuiteQuestions, recipe: Recipe, fraction: float
) -> tuple[SuiteQuestions, SuiteQuestions]:
    """(development, test) questions. Raises EvaluationError where a suite has none on one side."""
    split = development_split(recipe, fraction)
    sides: tuple[list[tuple[ActiveSuite, Sequence[SuiteQuestion]]], ...] = ([], [])
    for suite, of_suite in questions:
        chosen: tuple[list[SuiteQuestion], list[SuiteQuestion]] = ([], [])
        for question in of_suite:
            chosen[split.side(question.context.context_id) == "train"].append(question)
        for side, of_side, name in zip(sides, chosen, ("development", "test"), strict=True):
            if not of_side:
                raise EvaluationError(
                    f"{suite.label}: no question is left for the {name} side, because its {len(of_suite):,} questions "
                    "have too few different contexts; give more evaluation questions, or another --development share"
                )
            side.append((suite, of_side))
    return sides[0], sides[1]


def score_to_choose_by(rows: Sequence[EvaluationRow], metric: str | None, recipe: Recipe) -> tuple[str, Interval]:
    """(metric, figure) of the first suite: of its first metric, or of `metric`; over tasks where it has several.

    Raises EvaluationError for a metric that the suite has not, or one without a value.
    """
    label = rows[0].suite
    outcome = compare([row for row in rows if row.suite == label], None, recipe)
    name = metric or next(iter(outcome["before"]))
    figure = outcome["before"].get(name)
    if figure is None:
        raise EvaluationError(f"--metric {name}: {label} measures {', '.join(outcome['before'])}")
    macro = outcome["macro"].get(label, {}).get(name)
    figure = macro["before"] if macro else figure
    if figure["value"] is None:
        raise EvaluationError(f"{label}: {name} has no value for any question; choose another with --metric")
    return name, Interval(figure["value"], figure["low"], figure["high"], figure["n"])


def best_step(figures: Sequence[tuple[int, Interval]]) -> int:
    """The step whose figure is highest; of equals the earliest."""
    return max(figures, key=lambda entry: (entry[1].value or 0.0, -entry[0]))[0]


def _matrices(model: ModelRows, label: str) -> dict[str, Matrix]:
    """Scores [seeds, questions] by metric, NaN where there is none; questions in the order of their ids."""
    runs = [by_question([row for row in run if row.suite == label]) for run in model.runs]
    questions = runs[0].keys()
    if any(run.keys() != questions for run in runs):
        raise EvaluationError(f"{model.name}: its seeds are not about the same questions; evaluate them again")
    matrices = {}
    for metric in metrics_of(row for run in runs for row in run.values()):
        scores = np.full((len(runs), len(questions)), np.nan)
        for seed, run in enumerate(runs):
            for place, row in enumerate(run.values()):
                score = row.scores.get(metric)
                if score is not None:
                    scores[seed, place] = score
        matrices[metric] = scores
    return matrices


def _question_means(scores: Matrix) -> Matrix:
    """The mean over seeds of each question, NaN where no seed has a score."""
    there = ~np.isnan(scores)
    counts = there.sum(axis=0)
    sums = np.where(there, scores, 0.0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _difference(
    first: Matrix,
    scores: Matrix,
    resamples: int,
    seed: int,
) -> Figures:
    if first.shape[1] != scores.shape[1]:
        raise EvaluationError("the models are not about the same questions; evaluate them again")
    before, after = _question_means(first), _question_means(scores)
    interval = crossed_interval(scores - before, resamples, seed)
    both = ~(np.isnan(before) | np.isnan(after))
    tested = significance(before[both].tolist(), after[both].tolist(), resamples, seed)
    return asdict(interval) | asdict(tested) | {"words": visible_words(interval.n, tested.detectable)}


def _correct(figures: Sequence[Figures]) -> None:
    """Add "p_corrected" to the differences, a family for each metric of each suite."""
    families: dict[tuple[str, str], list[Figures]] = {}
    for model in figures:
        for label, by_metric in model["suites"].items():
            for metric, cell in by_metric.items():
                if cell["difference"] is not None:
                    families.setdefault((label, metric), []).append(cell["difference"])
    for family in families.values():
        for difference, corrected in zip(family, holm([one["p"] for one in family]), strict=True):
            difference["p_corrected"] = corrected
