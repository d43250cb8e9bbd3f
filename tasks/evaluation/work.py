"""How the calls of an evaluation are made: at once in this thread, or as Prefect tasks, span by span.

A span is some questions of a suite. While the judges read the answers of one, the model answers the next ones.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from infra.errors import ModelError
from infra.models.batches.lines import MOST_LINES
from infra.models.client import Failure, Outcome, Request
from infra.recipe import Recipe
from tasks.judging.context import ScoringContext
from tasks.scoring.run import InThread, StepRunner

_FEWEST_SPANS = 16  # of an evaluation, where it has enough calls to keep the servers busy
_TASKS_AT_ONCE = 8


class EvaluationWork(Protocol):
    """What an evaluation has done for it."""

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Start the work on a span."""
        ...

    def complete(self, requests: Sequence[Request], label: str) -> list[Outcome]:
        """The model's replies. Raises ModelError for a fault that may pass."""
        ...

    def steps(self, label: str) -> StepRunner:
        """What asks the judges about the answers of a span."""
        ...


class WorkInThread:
    """Everything at once, in the calling thread."""

    def __init__(self, scoring: ScoringContext) -> None:
        self._scoring = scoring

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work(*arguments))
        return future

    def complete(self, requests: Sequence[Request], label: str) -> list[Outcome]:
        assert self._scoring.policy is not None  # every run has one
        return checked(self._scoring.policy.complete(requests))

    def steps(self, label: str) -> StepRunner:
        return InThread(self._scoring)


@dataclass(slots=True)
class RequestBatch:
    """Requests to the model, and their outcomes once it has been asked."""

    requests: Sequence[Request]
    outcomes: list[Outcome] = field(default_factory=list)


def span_size(questions: int, calls: int, recipe: Recipe) -> int:
    """Questions of a span, of so many calls to the model each: all of them where calls go out as batches."""
    execution = recipe.execution
    if recipe.sends_batches():
        return max(1, MOST_LINES // calls)
    share = math.ceil(questions * calls / _FEWEST_SPANS)
    busy = math.ceil(2 * execution.concurrency * recipe.policy.replicas() / _TASKS_AT_ONCE)
    return max(1, min(execution.batch_calls, max(share, busy)) // calls)


def checked(outcomes: list[Outcome]) -> list[Outcome]:
    """The outcomes. Raises ModelError where one is a fault that may pass."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure) and not outcome.permanent]
    if failures:
        raise ModelError(
            f"{len(failures)} of {len(outcomes)} calls failed after all attempts; the first: {failures[0].reason}: "
            f"{failures[0].detail}. The replies that arrived are in the ledger; evaluate again when the server is well."
        )
    return outcomes
