"""Processes that build contexts beside this one: how many, what they get, and batches in order.

The tokenizer and the pool lie in a temporary folder; the pool is mapped, so all of them share one copy.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from infra.errors import LongmillError
from infra.models.tokens import Tokenizer, tokenizer_settings
from infra.recipe import Recipe
from infra.running.line_processes import LineProcesses, ProcessEndedError, json_line
from tasks.contexts import BuiltQuestion
from tasks.planning.distractors import Pool, write_pool
from tasks.planning.wire import outcomes_from_json, questions_to_json
from tasks.questions import RawQuestion
from tasks.records.example import Drop

Name = TypeVar("Name")
Outcomes = list[BuiltQuestion | Drop]


def planning_processes(recipe: Recipe) -> int:
    """Processes that build the recipe's contexts: as it says, or one for each core that this process may use."""
    return recipe.execution.planning_processes or len(os.sched_getaffinity(0))


class PlanningWorkers:
    """Processes that build contexts, each one batch at a time."""

    def __init__(self, processes: LineProcesses) -> None:
        self._processes = processes

    def build(self, batches: Iterable[tuple[Name, Sequence[RawQuestion]]]) -> Iterator[tuple[Name, Outcomes]]:
        """The outcomes of each batch, in the order of the batches. Raises what a worker has raised."""
        return self._processes.in_order(batches, self._build_one)

    def _build_one(self, questions: Sequence[RawQuestion]) -> Outcomes:
        try:
            content = self._processes.ask_json(questions_to_json(questions))
        except ProcessEndedError as error:
            raise LongmillError(
                f"a process that builds contexts has ended (status {error.status}): its error is above, or there was "
                "too little memory; plan again with fewer: --set execution.planning_processes=1"
            ) from error
        return outcomes_from_json(content["outcomes"])


@contextlib.contextmanager
def planning_workers(recipe: Recipe, tokenizer: Tokenizer, pool: Pool) -> Iterator[PlanningWorkers | None]:
    """Workers for as long as the block runs; None where the tokenizer cannot be given to another process."""
    settings = tokenizer_settings(tokenizer)
    if settings is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="longmill-plan-") as name:
        tokenizer_file, pool_file = Path(name) / "tokenizer.json", Path(name) / "pool.arrow"
        tokenizer_file.write_bytes(json_line(settings))
        write_pool(pool, pool_file)
        start = json_line(
            {"recipe": recipe.model_dump(mode="json"), "tokenizer": str(tokenizer_file), "pool": str(pool_file)}
        )
        processes = LineProcesses("tasks.planning.worker", start, planning_processes(recipe))
        try:
            yield PlanningWorkers(processes)
        finally:
            processes.close()
