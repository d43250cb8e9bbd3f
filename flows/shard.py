"""One shard of a plan: sample, score, pair, then the shard's result. Alone re-runnable.

Micro-batches of questions are sampled, some at once; as soon as one has its answers it is scored, in smaller
batches where a judge makes many calls for a question, so that the judge works while the policy still answers.
A shard that fails leaves its error beside its place in the store, where `longmill status` reads it; what its
calls brought is in the ledger, so a re-run pays for the missing calls only.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from prefect import State, flow

from infra.canonical import fingerprint
from infra.errors import LongmillError, StoreError
from infra.recipe import Execution, Recipe, parse_recipe
from infra.running import progress
from infra.running.prefect import retry_settings
from tasks.records.plan import Plan, load_plan
from tasks.records.shard import ShardResult, read_shard_result, write_failure, write_shard_result
from tasks.records.table import StoredTable
from tasks.resources import RunResources, open_resources
from tasks.sampling import calls_per_example
from tasks.shard_tasks import (
    Reference,
    Span,
    count_reused,
    judge_calls_per_example,
    pair,
    references_exist,
    sample,
    score,
    spans,
    spend_held,
)

FEWEST_BATCHES = 16  # of samples in a plan, if it has as many questions
TASKS_AT_ONCE = 8  # micro-batches of a kind in flight: the next one's calls are ready when the last one's run out

Lane = Callable[..., Future[Any]]  # like `submit` of a pool


@flow(name="shard", flow_run_name="shard {index:04d} of plan {plan_id}", validate_parameters=False)
def shard(recipe: dict[str, Any], plan_id: str, index: int) -> dict[str, Any]:
    """Work on one shard until its result is in the store; returns that result."""
    with open_resources(parse_recipe(recipe)) as bench:
        plan = load_plan(bench.store, plan_id)
        done = read_shard_result(bench.store, plan_id, index)
        if done is None:
            try:
                with bench.shard(plan, index):
                    spend_held(bench, plan)
                    done = work_on(Runs(bench, plan, index))
            except LongmillError as error:
                with contextlib.suppress(StoreError):  # a store that is away is the error already
                    write_failure(bench.store, plan_id, index, error)
                raise
            write_shard_result(bench.store, done)
        else:
            count_reused(bench, asdict(done.files["answers"]))
            progress.advance("score", plan.shards[index].questions)
        return done.to_json()


@dataclass(frozen=True, slots=True)
class Cut:
    """How a shard is cut into micro-batches: for sampling, and each of those again for scoring."""

    sampled: list[Span]
    scored: dict[Span, list[Span]]

    @classmethod
    def of(cls, bench: RunResources, plan: Plan, index: int) -> "Cut":
        examples, contexts = bench.shard_in_memory(plan.plan_id, index)
        batch, count = bench.recipe.execution.batch_calls, len(examples)
        longest = max(context.tokens for context in contexts.values())
        draws = calls_per_example(bench.recipe)
        planned = sum(each.questions for each in plan.shards) * draws
        sampled = spans((0, count), draws, sampled_at_once(planned, bench.recipe.execution), count)
        judged = judge_calls_per_example(bench.recipe, longest)
        return cls(sampled, {span: spans(span, judged, batch, count) for span in sampled})


def sampled_at_once(planned_calls: int, execution: Execution) -> int:
    """Calls of a micro-batch of samples, in a plan of so many: batch_calls, or less in a small plan.

    There, the policy would have nothing left to do while the last batch is scored; but the batches of a shard
    together are enough to keep all calls in flight.
    """
    share = math.ceil(planned_calls / FEWEST_BATCHES)
    busy = math.ceil(2 * execution.concurrency / TASKS_AT_ONCE)
    return min(execution.batch_calls, max(share, busy))


def work_on(run: "Runs") -> ShardResult:
    """Sample, score and pair a shard that is in memory, micro-batch by micro-batch."""
    bench, plan_id, index = run.bench, run.plan.plan_id, run.index
    cut = Cut.of(bench, run.plan, index)
    with _lane(bench) as sampling, _lane(bench) as scoring:

        def draw(span: Span) -> tuple[Reference, list[Future[Reference]]]:
            answers = run.sampled(span)
            return answers, [scoring(run.scored, part, answers) for part in cut.scored[span]]

        drawn = [future.result() for future in [sampling(draw, span) for span in cut.sampled]]
        judged = [future.result() for _, parts in drawn for future in parts]
    tables = run.paired([answers for answers, _ in drawn], judged)
    stored = {name: StoredTable.from_json(table) for name, table in tables.items()}
    return ShardResult.of(bench.store, plan_id, index, cut.sampled[-1][1], stored)


@contextlib.contextmanager
def _lane(bench: RunResources) -> Iterator[Lane]:
    """A few threads for task runs of the current flow run.

    When the block fails, what has not started is dropped and what runs comes to its end, recorded; when it is
    interrupted, the calls in flight get a moment alone.
    """
    pool = ThreadPoolExecutor(TASKS_AT_ONCE)
    try:
        # Each task run needs a context of its own to find the flow run.
        yield lambda work, *arguments: pool.submit(contextvars.copy_context().run, work, *arguments)
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        if not isinstance(error, Exception):
            bench.hang_up()
        raise
    finally:
        pool.shutdown()


class Runs:
    """Task runs of a shard. A result that Prefect has kept, but whose table has gone, is made again."""

    def __init__(self, bench: RunResources, plan: Plan, index: int) -> None:
        self.bench, self.plan, self.index = bench, plan, index
        place = fingerprint(bench.store.show(""))[:8]  # a table of another store is of no use in this one
        self._key = f"{place}-{plan.plan_id}-{index}"

    def sampled(self, span: Span) -> Reference:
        """The answers of a span of examples."""
        reference: Reference
        reference, cached = self.result(sample, *span, f"{self._key}-{span[0]}-{span[1]}")
        if cached:
            count_reused(self.bench, reference)
        return reference

    def scored(self, span: Span, answers: Reference) -> Reference:
        """The judgements of a span of examples, out of the answers of these and maybe more."""
        reference: Reference
        reference, cached = self.result(score, *span, answers, f"{self._key}-{span[0]}-{span[1]}")
        if cached:
            progress.advance("score", span[1] - span[0])
        return reference

    def paired(self, answers: list[Reference], judgements: list[Reference]) -> dict[str, Reference]:
        """The shard's four tables."""
        tables: dict[str, Reference]
        tables, _ = self.result(pair, answers, judgements, f"{self._key}-tables")
        return tables

    def result(self, task: Any, *arguments: Any) -> tuple[Any, bool]:
        """What a task run returned, and whether Prefect kept it from an earlier run."""
        again = _with_retries(task, self.bench.recipe.execution)
        state: State[Any] = again(self.bench.name, self.plan.plan_id, self.index, *arguments, return_state=True)
        result = state.result()
        if references_exist(self.bench, [result] if "path" in result else list(result.values())):
            return result, state.name == "Cached"
        anew = again.with_options(refresh_cache=True)
        return anew(self.bench.name, self.plan.plan_id, self.index, *arguments), False


@functools.cache  # Prefect reads a task's source again each time it is given options
def _with_retries(task: Any, execution: Execution) -> Any:
    return task.with_options(**retry_settings(execution))


def shard_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as flow parameters: JSON values alone, which the Prefect UI shows."""
    return recipe.model_dump(mode="json")
