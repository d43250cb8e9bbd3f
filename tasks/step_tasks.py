"""The Prefect tasks of steps: what scorers and the judges of suites have done, micro-batch by micro-batch.

    notes, helpfulness, logicality, completeness, facts, support, ...
                 calls to the judge, one task name for each kind of call
    embed, ...   work on this machine for some questions

A task gets live objects (`infra.running.prefect.live`) and returns JSON: keys of entries in the ledger, or values.
Prefect caches it under the content of its calls. A result whose entries have gone is made again, so Prefect's cache
saves time and never decides what is paid for.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from prefect import State, task

from infra.canonical import fingerprint
from infra.errors import ModelError
from infra.models.forms.request_form import prompt_for
from infra.models.protocol import CHAT
from infra.recipe import Execution
from infra.running.prefect import TASK_SETTINGS, cache_key, live, retry_settings
from infra.running.telemetry import span
from infra.store import Store
from tasks.judging.asking import ask_judge, judge_settings, query_identity, verdict_from_ledger
from tasks.judging.steps import AskStep, ComputeStep, Job, JudgeQuery, ModelRole, Verdict
from tasks.resources import RunResources

Submit = Callable[..., Future[Any]]  # like `submit` of a thread pool
IsWhole = Callable[[Any], bool]  # whether what a task returned can still be used
RunTask = Callable[[Any, tuple[Any, ...], IsWhole, Execution], tuple[Any, bool]]


@dataclass(frozen=True, slots=True)
class StepPlace:
    """Where steps are done: the resources of the run, and what labels name, as "shard 0003 · questions 1-10"."""

    resources: RunResources
    label: str
    run_task: RunTask
    batch_calls: int  # most calls of a task
    rerun_key: str = ""  # the end of keys in Prefect's cache

    def run(self, prefect_task: Any, arguments: tuple[Any, ...], is_whole: IsWhole) -> tuple[Any, bool]:
        """What a task returned, and whether it had run before."""
        return self.run_task(prefect_task, arguments, is_whole, self.resources.recipe.execution)


class QueryBatch:
    """A micro-batch of queries to the judge, and their verdicts once it has been asked."""

    def __init__(self, queries: Sequence[JudgeQuery[Any]], role: ModelRole) -> None:
        self.queries = queries
        self.role = role
        self.verdicts: list[Verdict[Any]] | None = None


@task(name="ask", task_run_name="{label}", cache_key_fn=cache_key, **TASK_SETTINGS)
def ask(resources: RunResources, batch: QueryBatch, label: str, key: str) -> dict[str, Any]:
    """Ask the judge; returns {"keys": ledger keys by query}. The verdicts stay on the batch."""
    with named_in_errors(label):
        batch.verdicts = ask_judge(batch.queries, resources.scoring(), batch.role)
    assert batch.verdicts is not None
    return {"keys": [list(verdict.keys) for verdict in batch.verdicts]}


@task(name="compute", task_run_name="{label}", cache_key_fn=cache_key, **TASK_SETTINGS)
def compute(jobs: Sequence[Job[Any]], label: str, key: str) -> list[Any]:
    """Do work on this machine, job by job; returns the values."""
    return [job.run() for job in jobs]


class TaskSteps:
    """Runs the steps of scorers over some questions as task runs, micro-batch by micro-batch."""

    def __init__(self, place: StepPlace, submit: Submit) -> None:
        self._place = place
        self._submit = submit
        self._rounds: dict[str, int] = {}  # steps so far, by kind
        self._scoring = place.resources.scoring()
        self._batch_calls = place.batch_calls

    def run(self, step: AskStep | ComputeStep) -> list[Future[list[Any]]]:
        """One future for each micro-batch; its results are those of the step, in order."""
        self._rounds[step.kind] = self._rounds.get(step.kind, 0) + 1
        place = f"{step.kind} · {self._place.label}"
        number = self._rounds[step.kind]
        suffix = f" · round {number}" if number > 1 else ""
        if isinstance(step, ComputeStep):
            return [
                self._submit(self._compute_batch, step.kind, jobs, f"{place}{suffix}")
                for jobs in self._job_batches(step)
            ]
        futures = []
        for start in range(0, len(step.queries), self._batch_calls):
            queries = step.queries[start : start + self._batch_calls]
            label = f"{place} · {step.unit} {start + 1}-{start + len(queries)}{suffix}"
            futures.append(self._submit(self._ask_batch, step.kind, queries, step.role, label))
        return futures

    def _job_batches(self, step: ComputeStep) -> list[list[Job[Any]]]:
        batches: list[list[Job[Any]]] = []
        texts = 0
        for job in step.jobs:
            if not batches or texts + job.texts > self._batch_calls:
                batches.append([])
                texts = 0
            batches[-1].append(job)
            texts += job.texts
        return batches

    def _ask_batch(
        self, kind: str, queries: Sequence[JudgeQuery[Any]], role: ModelRole, label: str
    ) -> list[Verdict[Any]]:
        """The verdicts on a micro-batch of queries."""
        place = self._place
        batch = QueryBatch(queries, role)
        recipe = place.resources.recipe
        identities = [query_identity(query, self._scoring, role) for query in queries]
        key = f"{store_key(place.resources.store)}-{fingerprint([recipe.seed, identities])}{place.rerun_key}"

        def is_whole(result: Any) -> bool:
            if batch.verdicts is None:
                batch.verdicts = self._verdicts_from_ledger(batch, result)
            return batch.verdicts is not None

        place.run(_named(ask, kind), (live(place.resources), live(batch), label, key), is_whole)
        assert batch.verdicts is not None  # a batch whose entries have gone was asked again
        return batch.verdicts

    def _verdicts_from_ledger(self, batch: QueryBatch, result: dict[str, Any]) -> list[Verdict[Any]] | None:
        """The verdicts of an earlier run, counted as reused calls; None when an entry has gone, or is due again."""
        keys: list[str] = []
        for of_query in result["keys"]:
            keys.extend(of_query)
        entries = dict(self._place.resources.ledger.lookup(keys))
        if any(map(self._place.resources.refusals.is_due, entries.values())):
            return None
        verdicts: list[Verdict[Any]] = []
        judge = judge_settings(self._scoring, batch.role)
        for query, of_query in zip(batch.queries, result["keys"], strict=True):
            verdict = verdict_from_ledger(query, of_query, entries, judge)
            if verdict is None:
                return None
            verdicts.append(verdict)
        client = self._scoring.client(batch.role)
        assert client is not None  # it was asked before
        for query, of_query in zip(batch.queries, result["keys"], strict=True):
            prompt = prompt_for(judge, query.prompt) if query.route == CHAT else query.prompt
            for key in of_query:
                if key in entries:
                    client.count_entry(prompt, entries[key])
        return verdicts

    def _compute_batch(self, kind: str, jobs: Sequence[Job[Any]], label: str) -> list[Any]:
        """The values of a micro-batch of jobs."""
        recipe = self._place.resources.recipe
        identity = [kind, recipe.embedding.model_dump(mode="json"), [job.identity for job in jobs]]
        key = f"{fingerprint(identity)}{self._place.rerun_key}"
        values, _ = self._place.run(_named(compute, kind), (live(jobs), label, key), lambda result: True)
        return list(values)


@contextlib.contextmanager
def named_in_errors(label: str) -> Iterator[None]:
    """Let errors of a model name the task: its step and its questions."""
    try:
        yield
    except ModelError as error:
        raise type(error)(f"{label}: {error}") from error


def store_key(store: Store) -> str:
    """A short name of the store for keys in Prefect's cache."""
    return fingerprint(store.place(""))[:8]


def run_in_prefect(
    prefect_task: Any, arguments: tuple[Any, ...], is_whole: IsWhole, execution: Execution
) -> tuple[Any, bool]:
    """What a task run returned, and whether Prefect had it from an earlier run. One that has gone is made again."""
    with_retries = _with_retries(prefect_task, execution)
    with span(f"task {prefect_task.name}") as own:
        state: State[Any] = with_retries(*arguments, return_state=True)
        result = state.result()
        if is_whole(result):
            cached = state.name == "Cached"
            own.set(cached=cached)
            return result, cached
        return with_retries.with_options(refresh_cache=True)(*arguments), False


@functools.cache  # Prefect reads a task's source again each time it is given options
def _with_retries(prefect_task: Any, execution: Execution) -> Any:
    return prefect_task.with_options(**retry_settings(execution))


@functools.cache
def _named(prefect_task: Any, kind: str) -> Any:
    return prefect_task.with_options(name=kind)
