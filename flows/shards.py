"""Shards of a plan in this process: some at once, each a flow run of its own, with the resources of the run."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows.shard import work_on_shard
from infra.errors import (
    BudgetReached,
    BusyError,
    JudgeError,
    LedgerError,
    LongmillError,
    RefusedError,
    ShardError,
    StoppedError,
    YieldError,
)
from infra.running.prefect import FlowTurns, without_heartbeats
from infra.running.server_away import run_when_server_answers
from infra.store import Store
from tasks.records.hint import rerun_command
from tasks.records.plan import Plan
from tasks.resources import RunResources

# Errors that say by themselves what to do.
STOPPED = (BudgetReached, BusyError, JudgeError, RefusedError, StoppedError, YieldError)
LASTING_FAULTS = (*STOPPED, LedgerError)  # what fails one shard for these will fail the next one too
SHARD_END_S = 15  # for a shard that is stopped

Failures = dict[int, BaseException]  # by shard


def run_here(resources: RunResources, plan: Plan, indices: Sequence[int]) -> Failures:
    """Work on shards, `execution.shards_in_flight` at once; returns what failed.

    A spent budget, a server that refuses, too many drops, a ledger out of reach, or a signal, stops the shards that
    have not started.
    """
    failures: Failures = {}
    run_shard = _shard_flow(resources, plan)

    def run_one(index: int) -> None:
        if is_stopped(failures):
            return
        try:
            run_shard(index)
        except ShardError as error:
            failures[index] = error.__cause__ or error
        except Exception as error:
            failures[index] = error

    # One more is begun ahead and waits for its turn in memory, so that the calls do not run out.
    pool = ThreadPoolExecutor(resources.recipe.execution.shards_in_flight + 1)
    futures: list[Future[None]] = []
    try:
        with without_heartbeats():  # those of the caller's flow run are the process's
            # Each shard's flow run needs a context of its own to become a child of the caller's.
            futures += [pool.submit(contextvars.copy_context().run, run_one, index) for index in indices]
            for future in futures:
                future.result()
    except BaseException:  # a signal
        pool.shutdown(wait=False, cancel_futures=True)
        resources.stop_at_signal()
        wait(futures, timeout=SHARD_END_S)  # the shards see that they are stopped, and write down what they have
        raise
    pool.shutdown()
    return failures


def is_stopped(failures: Mapping[int, BaseException]) -> bool:
    """Whether a shard has failed for what would fail the others too."""
    return any(isinstance(error, LASTING_FAULTS) for error in failures.values())


@contextlib.contextmanager
def saying_how_to_go_on(store: Store, plan_id: str, index: int) -> Iterator[None]:
    """Raise what fails the block as a ShardError: the page of a shard's flow run has its message.

    Errors that say by themselves what to do stay as they are.
    """
    try:
        yield
    except STOPPED:
        raise
    except LongmillError as error:
        command = rerun_command(store, plan_id, "--shards", str(index))
        raise ShardError(f"shard {index} has failed: {str(error).rstrip('.')}. Run it again with: {command}") from error


def shards_name(recipe_name: str, indices: Sequence[int]) -> str:
    """The name of a flow run of shards."""
    shards = f"shard {indices[0]:04d}" if len(indices) == 1 else f"shards {indices[0]:04d}-{indices[-1]:04d}"
    return f"{shards} · {recipe_name}"


def raise_failures(store: Store, plan: Plan, indices: Sequence[int], failures: Mapping[int, BaseException]) -> None:
    """Raise what has failed, if anything: one of STOPPED as it is, else LongmillError that says how to go on."""
    for error in failures.values():
        if isinstance(error, STOPPED):
            raise error
    if failures:
        first = failures[min(failures)]
        names = ", ".join(map(str, sorted(failures)))
        raise LongmillError(
            f"{len(failures)} of {len(indices)} shards failed ({names}); the first says: {str(first).rstrip('.')}. "
            f"What was paid for is kept. Run them again with: {rerun_command(store, plan.plan_id, '--failed')}"
        ) from first


def _shard_flow(resources: RunResources, plan: Plan) -> Callable[[int], None]:
    """Runs a shard as a flow run of this process."""
    turns = FlowTurns()

    def run_name() -> str:
        return shards_name(resources.recipe.name, [flow_run.parameters["index"]])

    @flow(name="shard", flow_run_name=run_name, validate_parameters=False)
    def shard(plan_id: str, index: int) -> dict[str, Any]:
        with turns.work(), saying_how_to_go_on(resources.store, plan_id, index):
            return work_on_shard(resources, plan, index).to_json()

    def run(index: int) -> None:
        with turns.run():
            run_when_server_answers(shard, plan.plan_id, index)

    return run
