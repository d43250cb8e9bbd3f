"""Compare two models' rows on the same questions: means with intervals, and the paired difference.

Means are over the questions that have a score; the difference is over those that have one in both. Beside each
mean is the number of questions that are missing, by reason.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from infra.canonical import seed_number
from infra.errors import EvaluationError
from infra.recipe import Evaluation, Recipe
from tasks.evaluation.statistics import difference_interval, mean_interval

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One question's outcome."""

    example_id: str
    kind: str
    prompt_tokens: int  # of the whole prompt, before anything was cut
    cut: bool  # whether the middle of the context was cut out
    answer: str  # the greedy answer
    finish_reason: str  # of the greedy answer; of a call without a reply, its outcome
    answered: bool  # whether the greedy call brought a reply
    scores: Mapping[str, float | None]  # by metric, in [0, 1]
    missing: Mapping[str, str]  # why a metric has no score, by metric
    suite: str = ""  # name of the suite, as the recipe labels it
    task: str = ""  # of the suite: scores are averaged over it before the macro average; empty where there is one
    groups: Mapping[str, float | str] = field(default_factory=dict)  # what else figures are read by: "depth" in [0, 1],
    # "position" an index, "length" the tokens that a generated prompt was made for, "language"


Paired = Sequence[tuple[EvaluationRow, EvaluationRow | None]]


def compare(before: Sequence[EvaluationRow], after: Sequence[EvaluationRow] | None, recipe: Recipe) -> Figures:
    """The figures of a comparison, ready for JSON; `after` null reports one model alone.

    {"questions", "cut": questions whose context was cut,
     "before": {metric: {"value", "low", "high", "n", "missing": {reason: count}}},
     "after": the same or null, "difference": {metric: {"value", "low", "high", "n"}} or null,
     "buckets": [{"name", "low", "high", "questions", "before", "after", "difference"}], by prompt tokens in
     [low, high], high null in the last; "kinds": [{"name", "questions", "before", "after", "difference"}]}

    Raises EvaluationError when there is no row, or the two are not about the same questions.
    """
    settings = recipe.evaluation or Evaluation()
    paired = _paired(before, after)

    def figures(rows: Paired) -> Figures:
        return _figures(rows, settings.resamples, seed_number(recipe.seed, "bootstrap"))

    return {
        "questions": len(paired),
        "cut": sum(row.cut for row, _ in paired),
        **figures(paired),
        "buckets": _by_length(paired, settings.buckets, figures),
        "kinds": _by_kind(paired, figures),
    }


def _paired(before: Sequence[EvaluationRow], after: Sequence[EvaluationRow] | None) -> Paired:
    """Rows of the same question side by side, by example id, whatever order they came in."""
    if not before:
        raise EvaluationError("there is no evaluated question to compare")
    ordered = sorted(before, key=lambda row: row.example_id)
    if after is None:
        return [(row, None) for row in ordered]
    ordered_after = sorted(after, key=lambda row: row.example_id)
    if [row.example_id for row in ordered] != [row.example_id for row in ordered_after]:
        raise EvaluationError("the two evaluations are not about the same questions; evaluate both models again")
    return list(zip(ordered, ordered_after, strict=True))


def _figures(rows: Paired, resamples: int, seed: int) -> Figures:
    first: list[EvaluationRow] = []
    second: list[EvaluationRow] = []
    for row, other in rows:
        first.append(row)
        if other is not None:
            second.append(other)
    return {
        "before": _means(first, resamples, seed),
        "after": _means(second, resamples, seed) if second else None,
        "difference": _differences(first, second, resamples, seed) if second else None,
    }


def _means(rows: Sequence[EvaluationRow], resamples: int, seed: int) -> Figures:
    figures: Figures = {}
    for metric in rows[0].scores:
        scores: list[float] = []
        missing: Counter[str] = Counter()
        for row in rows:
            score = row.scores[metric]
            if score is None:
                missing[row.missing[metric]] += 1
            else:
                scores.append(score)
        interval = mean_interval(scores, resamples, seed)
        figures[metric] = asdict(interval) | {"missing": dict(sorted(missing.items()))}
    return figures


def _differences(before: Sequence[EvaluationRow], after: Sequence[EvaluationRow], resamples: int, seed: int) -> Figures:
    figures: Figures = {}
    for metric in before[0].scores:
        scores_before: list[float] = []
        scores_after: list[float] = []
        for row, other in zip(before, after, strict=True):
            score, other_score = row.scores[metric], other.scores.get(metric)
            if score is not None and other_score is not None:
                scores_before.append(score)
                scores_after.append(other_score)
        figures[metric] = asdict(difference_interval(scores_before, scores_after, resamples, seed))
    return figures


def _by_kind(paired: Paired, figures: Callable[[Paired], Figures]) -> list[Figures]:
    """Figures of each kind of question, by name."""
    by_kind: dict[str, list[tuple[EvaluationRow, EvaluationRow | None]]] = {}
    for row, other in paired:
        by_kind.setdefault(row.kind, []).append((row, other))
    kinds: list[Figures] = []
    for kind, rows in sorted(by_kind.items()):
        kinds.append({"name": kind, "questions": len(rows), **figures(rows)})
    return kinds


def _by_length(
    paired: Paired,
    ends: Sequence[int],
    figures: Callable[[Paired], Figures],
) -> list[Figures]:
    """Figures of each prompt-length bucket that holds a question, shortest first."""
    buckets = []
    low = 0
    for high in [*sorted(set(ends)), None]:
        top = math.inf if high is None else high
        rows = [pair for pair in paired if low <= pair[0].prompt_tokens <= top]
        if rows:
            name = f"{low}-{high}" if high is not None else f"{low}-"
            buckets.append({"name": name, "low": low, "high": high, "questions": len(rows), **figures(rows)})
        low = low if high is None else high + 1
    return buckets
