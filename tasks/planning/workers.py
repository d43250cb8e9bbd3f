"""Processes that build contexts beside this one: how many, their start, their end, and batches in order.

They are programs of their own (worker.py), not copies of this process, so they hold none of its memory and start with
few imports. The tokenizer and the pool lie in a temporary folder; the pool is mapped, so all of them share one copy.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from infra import errors
from infra.errors import LongmillError
from infra.models.tokens import Tokenizer, tokenizer_settings
from infra.recipe import Recipe
from tasks.planning.contexts import BuiltQuestion
from tasks.planning.distractors import Pool, write_pool
from tasks.planning.wire import line, outcomes_from_json, questions_to_json
from tasks.questions import RawQuestion
from tasks.records.example import Drop

_ROOT = Path(__file__).resolve().parents[2]  # the folder of the packages
_AHEAD = 2  # batches that wait for a free worker

Name = TypeVar("Name")
Outcomes = list[BuiltQuestion | Drop]


def planning_processes(recipe: Recipe) -> int:
    """Processes that build the recipe's contexts: as it says, or one for each core that this process may use."""
    return recipe.execution.planning_processes or len(os.sched_getaffinity(0))


class PlanningWorkers:
    """Started workers; each has one batch at a time."""

    def __init__(self, workers: Sequence[subprocess.Popen[bytes]]) -> None:
        self._workers = workers
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        for worker in workers:
            self._idle.put(worker)

    def build(self, batches: Iterable[tuple[Name, Sequence[RawQuestion]]]) -> Iterator[tuple[Name, Outcomes]]:
        """The outcomes of each batch, in the order of the batches. Raises what a worker has raised."""
        with ThreadPoolExecutor(len(self._workers)) as threads:
            begun: deque[tuple[Name, Future[Outcomes]]] = deque()
            try:
                for name, questions in batches:
                    begun.append((name, threads.submit(self._build_one, questions)))
                    if len(begun) >= len(self._workers) + _AHEAD:
                        name, future = begun.popleft()
                        yield name, future.result()
                while begun:
                    name, future = begun.popleft()
                    yield name, future.result()
            except BaseException:  # also an interruption, or a reader that stops early: no batch is waited for
                for worker in self._workers:
                    worker.kill()
                threads.shutdown(cancel_futures=True)
                raise

    def _build_one(self, questions: Sequence[RawQuestion]) -> Outcomes:
        worker = self._idle.get()
        try:
            assert worker.stdin is not None
            assert worker.stdout is not None
            try:
                worker.stdin.write(line(questions_to_json(questions)))
                worker.stdin.flush()
                reply = worker.stdout.readline()
            except BrokenPipeError:
                reply = b""
        finally:
            self._idle.put(worker)
        if not reply.endswith(b"\n"):
            raise LongmillError(
                f"a process that builds contexts has ended (status {worker.wait()}): its error is above, or there was "
                "too little memory; plan again with fewer: --set execution.planning_processes=1"
            )
        content = json.loads(reply)
        if "error" in content:
            raise getattr(errors, content["error"])(content["message"])
        return outcomes_from_json(content["outcomes"])


@contextlib.contextmanager
def planning_workers(recipe: Recipe, tokenizer: Tokenizer, pool: Pool) -> Iterator[PlanningWorkers | None]:
    """Workers for as long as the block runs; None where the tokenizer cannot be given to another process."""
    settings = tokenizer_settings(tokenizer)
    if settings is None:
        yield None
        return
    workers: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="longmill-plan-") as name:
        tokenizer_file, pool_file = Path(name) / "tokenizer.json", Path(name) / "pool.arrow"
        tokenizer_file.write_bytes(line(settings))
        write_pool(pool, pool_file)
        start = line(
            {"recipe": recipe.model_dump(mode="json"), "tokenizer": str(tokenizer_file), "pool": str(pool_file)}
        )
        try:
            for _ in range(planning_processes(recipe)):
                workers.append(_started(start))
            yield PlanningWorkers(workers)
        finally:
            for worker in workers:
                worker.kill()  # they hold nothing that could be lost
            for worker in workers:
                with contextlib.suppress(BrokenPipeError), worker:  # closes its pipes and waits for its end
                    pass


def _started(settings: bytes) -> subprocess.Popen[bytes]:
    """A worker that has its settings. Ctrl-C does not reach it: this process ends it."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "tasks.planning.worker"],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
        start_new_session=True,
    )
    assert worker.stdin is not None
    worker.stdin.write(settings)
    worker.stdin.flush()
    return worker
