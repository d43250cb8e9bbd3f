"""Compare two models' rows on the same questions: means with intervals, and the paired difference with its test.

Means are over the questions that have a score; the difference is over those that have one in both. Beside each mean
is the number of questions that are missing, by reason; beside each difference is the smallest one that so many
questions would show. Several rows of one question (samples, seeds) are averaged first: they are one question.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from infra.canonical import seed_number
from infra.errors import EvaluationError
from infra.recipe import Evaluation, Recipe
from tasks.evaluation.macro import macro_difference, macro_interval
from tasks.evaluation.significance import holm, paired_interval, significance, visible_words
from tasks.evaluation.statistics import mean_interval

Figures = dict[str, Any]

BREAKDOWNS = ("buckets", "kinds", "tasks", "groups")  # of an outcome: where figures are read by something
_DISTINCT = 12  # values of a group that stand alone; more numbers than that are put into tenths
_BINS = 10


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
    suite: str = ""  # the suite that measured it
    task: str = ""  # of the suite: scores are averaged over a task first, then over tasks; empty where there is one
    # What figures are read by besides length and kind: "depth" in [0, 1], "position" an index, "length" the tokens
    # that a generated prompt was made for, "language".
    groups: Mapping[str, float | str] = field(default_factory=dict)


Paired = Sequence[tuple[EvaluationRow, EvaluationRow | None]]
Split = Sequence[tuple[Figures, Paired]]  # of the questions: what each part is called, and its rows


def compare(before: Sequence[EvaluationRow], after: Sequence[EvaluationRow] | None, recipe: Recipe) -> Figures:
    """The figures of a comparison, ready for JSON; `after` null reports one model alone.

    {"questions", "cut": questions whose context was cut,
     "before": {metric: {"value", "low", "high", "n", "missing": {reason: count}}}, "after": the same or null,
     "difference": {metric: {"value", "low", "high", "n", "p", "test", "detectable", "words"}} or null,
     "buckets": [part], by prompt tokens in [low, high], high null in the last; "kinds": [part];
     "tasks": [part] with their "suite", where there are any; "groups": {name: [part]} of two values and more;
     "macro": {suite: {metric: {"tasks", "before", "after", "difference"}}}, averages of the tasks' averages}
    A part: {"name", "questions", "before", "after", "difference"}; its differences have "p_corrected" beside "p":
    Holm's correction for all parts that a metric is read by. What splits the questions as something before it does is
    empty, in the order tasks, groups, buckets, kinds: its figures would be the same once more.

    Raises EvaluationError when there is no row, or the two are not about the same questions.
    """
    settings = recipe.evaluation or Evaluation()
    paired = _paired(before, after)
    seed = seed_number(recipe.seed, "bootstrap")

    def figures(rows: Paired) -> Figures:
        return _figures(rows, settings.resamples, seed)

    breakdowns = _Breakdowns(figures)
    tasks = breakdowns.parts(_by_task(paired))
    groups = {name: parts for name, split in _by_group(paired) if (parts := breakdowns.parts(split))}
    outcome = {
        "questions": len(paired),
        "cut": sum(row.cut for row, _ in paired),
        **figures(paired),
        "buckets": breakdowns.parts(_by_length(paired, settings.buckets)),
        "kinds": breakdowns.parts(_split(paired, lambda row: row.kind)),
        "tasks": tasks,
        "groups": groups,
        "macro": _macro(paired, settings.resamples, seed),
    }
    _correct(outcome)
    return outcome


def parts_of(outcome: Mapping[str, Any]) -> Iterable[Figures]:
    """All parts of an outcome: buckets, kinds, tasks and groups. Outcomes of earlier versions have fewer."""
    for name in BREAKDOWNS:
        parts = outcome.get(name) or []
        for some in parts.values() if isinstance(parts, Mapping) else [parts]:
            yield from some


def _paired(before: Sequence[EvaluationRow], after: Sequence[EvaluationRow] | None) -> Paired:
    """Rows of the same question side by side, by suite and example id, whatever order they came in."""
    if not before:
        raise EvaluationError("there is no evaluated question to compare")
    ordered = by_question(before)
    if after is None:
        return [(row, None) for row in ordered.values()]
    ordered_after = by_question(after)
    if ordered.keys() != ordered_after.keys():
        raise EvaluationError("the two evaluations are not about the same questions; evaluate both models again")
    return [(row, ordered_after[question]) for question, row in ordered.items()]


def by_question(rows: Sequence[EvaluationRow]) -> dict[tuple[str, str], EvaluationRow]:
    """One row a question, in the order of suite and example id; the scores of several rows are averaged."""
    grouped: dict[tuple[str, str], list[EvaluationRow]] = {}
    for row in rows:
        grouped.setdefault((row.suite, row.example_id), []).append(row)
    merged: dict[tuple[str, str], EvaluationRow] = {}
    for question, repeats in sorted(grouped.items()):
        merged[question] = repeats[0] if len(repeats) == 1 else _averaged(repeats)
    return merged


def _averaged(repeats: Sequence[EvaluationRow]) -> EvaluationRow:
    """The first row of a question with the mean of all its rows' scores; those that are missing are left out."""
    first = repeats[0]
    scores: dict[str, float | None] = {}
    missing: dict[str, str] = {}
    for metric in first.scores:
        values = [score for row in repeats if (score := row.scores.get(metric)) is not None]
        scores[metric] = sum(values) / len(values) if values else None
        if not values:
            missing[metric] = first.missing[metric]
    return replace(first, scores=scores, missing=missing)


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
        "difference": _differences(rows, resamples, seed) if second else None,
    }


def metrics_of(rows: Iterable[EvaluationRow]) -> list[str]:
    """The metrics that any of the rows has, in their order; rows of two suites have different ones."""
    metrics: dict[str, None] = {}
    for row in rows:
        metrics.update(dict.fromkeys(row.scores))
    return list(metrics)


def _means(rows: Sequence[EvaluationRow], resamples: int, seed: int) -> Figures:
    figures: Figures = {}
    for metric in metrics_of(rows):
        scores: list[float] = []
        missing: Counter[str] = Counter()
        for row in rows:
            score = row.scores.get(metric)
            if score is not None:
                scores.append(score)
            elif metric in row.scores:
                missing[row.missing[metric]] += 1
        interval = mean_interval(scores, resamples, seed)
        figures[metric] = asdict(interval) | {"missing": dict(sorted(missing.items()))}
    return figures


def _differences(rows: Paired, resamples: int, seed: int) -> Figures:
    figures: Figures = {}
    for metric in metrics_of(row for row, _ in rows):
        figures[metric] = difference_figure(*paired_scores(rows, metric), resamples, seed)
    return figures


def paired_scores(rows: Paired, metric: str) -> tuple[list[float], list[float]]:
    """The scores of both models on the questions that both have one of."""
    scores_before: list[float] = []
    scores_after: list[float] = []
    for row, other in rows:
        score, other_score = row.scores.get(metric), other.scores.get(metric) if other else None
        if score is not None and other_score is not None:
            scores_before.append(score)
            scores_after.append(other_score)
    return scores_before, scores_after


def difference_figure(before: Sequence[float], after: Sequence[float], resamples: int, seed: int) -> Figures:
    """The figure of a paired difference: interval, test, and what could be seen."""
    differences = [value_after - value_before for value_before, value_after in zip(before, after, strict=True)]
    interval = paired_interval(differences, resamples, seed)
    tested = significance(before, after, resamples, seed)
    return asdict(interval) | asdict(tested) | {"words": visible_words(interval.n, tested.detectable)}


def _correct(outcome: Figures) -> None:
    """Add "p_corrected" to the differences of all parts, a family for each metric."""
    families: dict[str, list[Figures]] = {}
    for part in parts_of(outcome):
        for metric, figure in (part["difference"] or {}).items():
            figure["p_corrected"] = figure["p"]
            if part["questions"] == outcome["questions"]:
                continue  # the whole, and no further look at it
            families.setdefault(metric, []).append(figure)
    for family in families.values():
        for figure, corrected in zip(family, holm([figure["p"] for figure in family]), strict=True):
            figure["p_corrected"] = corrected


class _Breakdowns:
    """Makes the parts of splits; one that is the same as an earlier one is left out."""

    def __init__(self, figures: Callable[[Paired], Figures]) -> None:
        self._figures = figures
        self._earlier: set[frozenset[frozenset[int]]] = set()

    def parts(self, split: Split) -> list[Figures]:
        """The figures of each part; none where an earlier split has them."""
        sets = frozenset(frozenset(id(row) for row, _ in rows) for _, rows in split)
        if len(split) > 1 and sets in self._earlier:
            return []
        self._earlier.add(sets)
        return [{**names, "questions": len(rows), **self._figures(rows)} for names, rows in split]


def _split(paired: Paired, name_of: Callable[[EvaluationRow], float | str | None]) -> Split:
    """The questions of each name, in the names' order; questions whose name is None are left out."""
    by_name: dict[float | str, list[tuple[EvaluationRow, EvaluationRow | None]]] = {}
    for row, other in paired:
        name = name_of(row)
        if name is not None:
            by_name.setdefault(name, []).append((row, other))
    split: list[tuple[Figures, Paired]] = []
    for name, rows in sorted(by_name.items(), key=lambda entry: (isinstance(entry[0], str), entry[0])):
        number = {} if isinstance(name, str) else {"value": name}
        split.append(({"name": _name(name), **number}, rows))
    return split


def _name(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}" if value < 1e5 else f"{value:.0f}"


def _by_task(paired: Paired) -> Split:
    """The questions of each task of each suite; empty where no suite has several."""
    if not any(row.task for row, _ in paired):
        return []
    split: list[tuple[Figures, Paired]] = []
    for suite in sorted({row.suite for row, _ in paired}):
        of_suite = [pair for pair in paired if pair[0].suite == suite]
        for names, rows in _split(of_suite, lambda row: row.task):
            split.append(({"suite": suite, **names}, rows))
    return split


def _macro(paired: Paired, resamples: int, seed: int) -> Figures:
    """The macro averages of each suite that has several tasks, by metric."""
    suites: Figures = {}
    for suite in sorted({row.suite for row, _ in paired}):
        of_suite = [pair for pair in paired if pair[0].suite == suite]
        tasks = sorted({row.task for row, _ in of_suite})
        if len(tasks) < 2:
            continue
        compared = any(other is not None for _, other in of_suite)
        suites[suite] = {}
        for metric in metrics_of(row for row, _ in of_suite):
            before: dict[str, list[float]] = {}
            after: dict[str, list[float]] = {}
            differences: dict[str, list[float]] = {}
            for task in tasks:
                rows = [pair for pair in of_suite if pair[0].task == task]
                before[task] = _scores((row for row, _ in rows), metric)
                after[task] = _scores((other for _, other in rows if other is not None), metric)
                both = zip(*paired_scores(rows, metric), strict=True)
                differences[task] = [value_after - value_before for value_before, value_after in both]
            suites[suite][metric] = {
                "tasks": len(tasks),
                "before": asdict(macro_interval(before, resamples, seed)),
                "after": asdict(macro_interval(after, resamples, seed)) if compared else None,
                "difference": macro_difference(differences, resamples, seed) if compared else None,
            }
    return suites


def _scores(rows: Iterable[EvaluationRow], metric: str) -> list[float]:
    return [score for row in rows if (score := row.scores.get(metric)) is not None]


def _by_group(paired: Paired) -> Iterable[tuple[str, Split]]:
    """The questions by each of the rows' groups; numbers of more than a dozen values are put into ten ranges."""
    names: dict[str, None] = {}
    for row, _ in paired:
        names.update(dict.fromkeys(row.groups))
    for name in names:
        values = {row.groups[name] for row, _ in paired if name in row.groups}
        if len(values) < 2:
            continue
        numbers = [value for value in values if not isinstance(value, str)]
        bins = _Bins(numbers) if len(numbers) > _DISTINCT else None
        yield name, _split(paired, lambda row, name=name, bins=bins: _group_value(row, name, bins))  # type: ignore[misc]


class _Bins:
    """Equal ranges over numbers; a number is named by the middle of its range."""

    def __init__(self, numbers: Sequence[float]) -> None:
        self._low = min(numbers)
        self._width = (max(numbers) - self._low) / _BINS

    def middle(self, number: float) -> float:
        place = min(_BINS - 1, int((number - self._low) / self._width))
        return round(self._low + (place + 0.5) * self._width, 6)


def _group_value(row: EvaluationRow, name: str, bins: _Bins | None) -> float | str | None:
    value = row.groups.get(name)
    return value if bins is None or value is None or isinstance(value, str) else bins.middle(value)


def _by_length(paired: Paired, ends: Sequence[int]) -> Split:
    """The questions of each prompt-length bucket that holds one, shortest first."""
    split: list[tuple[Figures, Paired]] = []
    low = 0
    for high in [*sorted(set(ends)), None]:
        top = math.inf if high is None else high
        rows = [pair for pair in paired if low <= pair[0].prompt_tokens <= top]
        if rows:
            name = f"{low}-{high}" if high is not None else f"{low}-"
            split.append(({"name": name, "low": low, "high": high}, rows))
        low = low if high is None else high + 1
    return split
