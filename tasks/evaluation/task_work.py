"""The calls of an evaluation as Prefect tasks: `evaluate` for some questions' answers, one task name a kind of judging.

A task returns the keys of the replies in the ledger, which is the record: what is there is not paid for again.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from prefect import task

from infra.canonical import fingerprint
from infra.models.client import Outcome, Request
from infra.running.prefect import TASK_SETTINGS, cache_key, live
from tasks.evaluation.work import RequestBatch, checked
from tasks.resources import RunResources
from tasks.scoring.run import StepRunner
from tasks.step_tasks import StepPlace, Submit, TaskSteps, named_in_errors, run_in_prefect, store_key


@task(name="evaluate", task_run_name="{label}", cache_key_fn=cache_key, **TASK_SETTINGS)
def answer(resources: RunResources, batch: RequestBatch, label: str, key: str) -> dict[str, Any]:
    """Ask the model; returns {"keys": ledger keys by request}. The outcomes stay on the batch."""
    with named_in_errors(label):
        batch.outcomes = checked(resources.policy.complete(batch.requests))
    return {"keys": [request.key for request in batch.requests]}


class WorkInTasks:
    """Task runs of the current flow run. `submit_span` and `submit_step` are of different threads: one waits for the
    other."""

    def __init__(self, resources: RunResources, submit_span: Submit, submit_step: Submit) -> None:
        self._resources = resources
        self._submit_span = submit_span
        self._submit_step = submit_step

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self._submit_span(work, *arguments)

    def complete(self, requests: Sequence[Request], label: str) -> list[Outcome]:
        resources, batch = self._resources, RequestBatch(requests)
        key = f"{store_key(resources.store)}-{fingerprint([request.key for request in requests])}"
        arguments = (live(resources), live(batch), f"evaluate · {label}", key)
        run_in_prefect(answer, arguments, lambda result: True, resources.recipe.execution)
        if not batch.outcomes:  # Prefect had the result of an earlier run, and the ledger has the replies
            batch.outcomes = checked(resources.policy.complete(requests))
        return batch.outcomes

    def steps(self, label: str) -> StepRunner:
        batch_calls = self._resources.recipe.execution.batch_calls
        return TaskSteps(StepPlace(self._resources, label, run_in_prefect, batch_calls), self._submit_step)
