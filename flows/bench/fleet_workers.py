"""Process workers of a fleet, and who kills their runs."""

import contextlib
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

from infra.running.processes import ChildProcess

_LOOK_S = 0.5
_LONGEST_S = 12.0  # between the start of a run and its death


@dataclass(frozen=True)
class Kill:
    """One kill: when, by the clock of the machine, and whether the worker went with its run."""

    time: float
    with_worker: bool


class Fleet:
    """Workers by number; one that was killed is started again."""

    def __init__(self, folder: Path, count: int, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = environment | {
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_WORKER_HEARTBEAT_SECONDS": "10",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # a run's `python` is the first
        }
        self._workers: dict[int, ChildProcess] = {}
        for number in range(count):
            self._start(number)

    def _start(self, number: int) -> None:
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "longmill", "--limit", "1"]
        command += ["--work-queue", "default", "--name", f"worker-{number}-{time.time():.0f}"]
        log = self._folder / f"worker-{number}.log"
        self._workers[number] = ChildProcess(command, log=log, env=self._environment, cwd=self._folder)

    def runs(self) -> Iterator[tuple[int, psutil.Process]]:
        """The processes of runs, with the number of their worker."""
        for number, worker in list(self._workers.items()):
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in psutil.Process(worker.supervisor).children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                        if "prefect.engine" in process.cmdline():
                            yield number, process

    def kill_worker(self, number: int) -> None:
        """Kill -9 of a worker and of all its processes; another worker takes its place."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self._workers[number].supervisor).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._workers[number].stop()
        self._start(number)

    def stop(self) -> None:
        """End all workers."""
        for worker in self._workers.values():
            worker.stop()


@contextlib.contextmanager
def fleet_of_workers(folder: Path, count: int, environment: dict[str, str]) -> Iterator[Fleet]:
    """So many process workers, one run at a time each."""
    fleet = Fleet(folder, count, environment)
    try:
        yield fleet
    finally:
        fleet.stop()


class Killer:
    """Kills every so many-th run some seconds after its start; every third time the worker with it."""

    def __init__(self, fleet: Fleet, every: int) -> None:
        self._fleet = fleet
        self._every = every
        self._random = random.Random(0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.kills: list[Kill] = []

    def __enter__(self) -> "Killer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        seen: set[int] = set()
        deaths: dict[int, float] = {}  # by process id
        while not self._ended.wait(_LOOK_S):
            for number, process in list(self._fleet.runs()):
                if process.pid not in seen:
                    seen.add(process.pid)
                    if len(seen) % self._every == 0:
                        deaths[process.pid] = time.monotonic() + self._random.uniform(0, _LONGEST_S)
                if time.monotonic() > deaths.get(process.pid, float("inf")):
                    del deaths[process.pid]
                    with_worker = len(self.kills) % 3 == 2
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
                        self.kills.append(Kill(time.time(), with_worker))
                        if with_worker:
                            self._fleet.kill_worker(number)
