"""The effective length: the longest length at which a model's score reaches a threshold, as in RULER."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

THRESHOLD = 0.856  # RULER's: Llama-2-7B at 4,096 tokens


@dataclass(frozen=True, slots=True)
class EffectiveLength:
    """`length` is None where no length reaches the threshold. `scores` are by length, the means of the tasks' means."""

    threshold: float
    length: int | None
    scores: Mapping[int, float]
    dips: tuple[int, ...]  # shorter lengths that do not reach the threshold


def effective_length(scores: Iterable[tuple[int, str, float | None]], threshold: float = THRESHOLD) -> EffectiveLength:
    """Of (length, task, score) of every question; one without a score is left out."""
    by_task: dict[int, dict[str, list[float]]] = {}
    for length, task, score in scores:
        if score is not None:
            by_task.setdefault(length, {}).setdefault(task, []).append(score)
    means: dict[int, float] = {}
    for length in sorted(by_task):
        of_tasks = [sum(values) / len(values) for values in by_task[length].values()]
        means[length] = sum(of_tasks) / len(of_tasks)
    reached = [length for length, mean in means.items() if mean >= threshold]
    longest = reached[-1] if reached else None
    dips = tuple(length for length in means if longest is not None and length < longest and length not in reached)
    return EffectiveLength(threshold, longest, means, dips)
