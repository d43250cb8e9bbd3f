"""Processes that plan beside this one: how many, what they get, and their results in order.

The tokenizer and the pool lie in a temporary folder; the pool is written once and mapped, so that all of them, and this
process too, share one copy. Where a build has workers on other machines, they build the ranges (elsewhere.py).
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from infra.errors import LongmillError
from infra.models.tokens import Tokenizer, tokenizer_settings
from infra.recipe import Questions, Recipe
from infra.running.line_processes import LineProcesses, ProcessEndedError, json_line
from tasks.contexts import SIZES_AT_ONCE, BuiltQuestion
from tasks.planning.built_range import BuiltRange
from tasks.planning.distractors import Pool, map_pool, write_documents
from tasks.planning.wire import built_range_from_json, outcomes_from_json, questions_to_json
from tasks.questions import RawQuestion
from tasks.questions.ranges import RowRange
from tasks.records.example import Drop

Outcomes = list[BuiltQuestion | Drop]
# Has ranges built on other machines, in their order; what none of them builds, the processes here do.
Elsewhere = Callable[["PlanningWorkers", Iterable[RowRange]], Iterator[tuple[RowRange, BuiltRange]]]
Name = TypeVar("Name")
Job = TypeVar("Job")
Result = TypeVar("Result")


def planning_processes(recipe: Recipe) -> int:
    """Processes that build the recipe's contexts: as it says, or one for each core that this process may use."""
    return recipe.execution.planning_processes or len(os.sched_getaffinity(0))


class PlanningWorkers:
    """Processes that plan, each one job at a time. They start when the first of them is needed."""

    def __init__(self, recipe: Recipe, questions: Questions, folder: Path, elsewhere: Elsewhere | None = None) -> None:
        self.recipe, self.questions = recipe, questions
        self.files = {name: folder / name for name in ("tokenizer", "documents", "sizes")}
        self._elsewhere = elsewhere
        self._processes: LineProcesses | None = None

    @property
    def started(self) -> bool:
        """Whether there are any."""
        return self._processes is not None

    def start(self, pool: Pool, tokenizer: Tokenizer) -> Pool | None:
        """The pool as the workers have it; None where there is one process, or the tokenizer is of this one alone."""
        several = planning_processes(self.recipe) > 1 or self._elsewhere is not None
        settings = tokenizer_settings(tokenizer) if several else None
        if settings is None:
            return None
        self.files["tokenizer"].write_bytes(json_line(settings))
        write_documents(pool, self.files["documents"])
        self.start_processes()
        documents = map_pool(self.files["documents"]).documents
        sizes = pool.tokens or self._all_sizes(len(documents))
        self.files["sizes"].write_bytes(json_line(sizes))
        return replace(pool, documents=documents, tokens=sizes)

    def start_processes(self) -> None:
        """Start them with files that are there, or, `sizes`, will be before the first range."""
        line: dict[str, Any] = {name: str(path) for name, path in self.files.items()}
        line["recipe"] = self.recipe.model_dump(mode="json")
        line["questions"] = self.questions.model_dump(mode="json")
        self._processes = LineProcesses("tasks.planning.worker", json_line(line), planning_processes(self.recipe))

    def build_ranges(self, ranges: Iterable[RowRange]) -> Iterator[tuple[RowRange, BuiltRange]]:
        """Each range, read and built, in their order. Raises what a worker has raised."""
        return self.build_here(ranges) if self._elsewhere is None else self._elsewhere(self, ranges)

    def build_here(self, ranges: Iterable[RowRange]) -> Iterator[tuple[RowRange, BuiltRange]]:
        """The same, by the processes of this machine."""
        for rows, built in self.build_as_json((rows, rows) for rows in ranges):
            yield rows, built_range_from_json(built)

    def build_as_json(self, ranges: Iterable[tuple[Name, RowRange]]) -> Iterator[tuple[Name, dict[str, Any]]]:
        """Ranges under names of their own, as the processes of this machine have written them."""
        return self._in_order(ranges, self._build_range)

    def build(self, batches: Iterable[tuple[Name, Sequence[RawQuestion]]]) -> Iterator[tuple[Name, Outcomes]]:
        """The outcomes of each batch, in the order of the batches. Raises what a worker has raised."""
        return self._in_order(batches, self._build)

    def close(self) -> None:
        """End all of them."""
        if self._processes is not None:
            self._processes.close()

    def _build_range(self, rows: RowRange) -> dict[str, Any]:
        built: dict[str, Any] = self._ask({"range": asdict(rows)})
        return built

    def _build(self, questions: Sequence[RawQuestion]) -> Outcomes:
        return outcomes_from_json(self._ask({"questions": questions_to_json(questions)})["outcomes"])

    def _sizes(self, start: int) -> list[int]:
        sizes: list[int] = self._ask({"sizes": [start, start + SIZES_AT_ONCE]})["sizes"]
        return sizes

    def _all_sizes(self, count: int) -> list[int]:
        sizes: list[int] = []
        for _, some in self._in_order(((start, start) for start in range(0, count, SIZES_AT_ONCE)), self._sizes):
            sizes += some
        return sizes

    def _in_order(
        self, jobs: Iterable[tuple[Name, Job]], work: Callable[[Job], Result]
    ) -> Iterator[tuple[Name, Result]]:
        assert self._processes is not None
        return self._processes.in_order(jobs, work)

    def _ask(self, job: dict[str, Any]) -> Any:
        assert self._processes is not None
        try:
            return self._processes.ask_json(job)
        except ProcessEndedError as error:
            raise LongmillError(
                f"a process that builds contexts has ended (status {error.status}): its error is above, or there was "
                "too little memory; plan again with fewer: --set execution.planning_processes=1"
            ) from error


@contextlib.contextmanager
def planning_workers(
    recipe: Recipe, questions: Questions, elsewhere: Elsewhere | None = None
) -> Iterator[PlanningWorkers]:
    """Workers for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="longmill-plan-") as name:
        workers = PlanningWorkers(recipe, questions, Path(name), elsewhere)
        try:
            yield workers
        finally:
            workers.close()
