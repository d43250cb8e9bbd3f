"""Ways of training cases one after another in a process of their own, each with an end to its time.

`measure_ways` starts the process (this file run as a program), which imports the trainers once, and writes a JSON line
for each way. A way that runs out of memory or fails is a line too. The parent stops the process when a way passes its
time, or finds it ended, says so of that way, and starts another process with those that are left: nothing that happens
to one way reaches the others. Leaves out: which ways there are, and what is made of their figures.
"""

import contextlib
import gc
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.bench.machine import ROOT
from flows.bench.training_case import ENVIRONMENT, TrainingCase, run_way
from infra.running.processes import ChildProcess

LEAST_S = 30.0  # a process takes a third of it to import the trainers
_RESTART = 75  # the exit status of a process that asks for a fresh one, after a way that left its GPU in doubt
_LEFT_BYTES = 1_000_000_000  # on the GPU after a way: more than workspaces is a model that is still there
_POLL_S = 0.1
_LOG_LINES = 3

Figures = dict[str, Any]
Record = Callable[[TrainingCase, Figures], None]


@dataclass(frozen=True, slots=True)
class TimeShare:
    """Seconds for one way: those in which it should take its steps, and those after which it is stopped."""

    aim: float
    stop: float

    @staticmethod
    def of(seconds_left: float, ways_left: int) -> "TimeShare":
        """Early ways may take longer than an even share, none more than a quarter of what is left."""
        stop = min(seconds_left, max(LEAST_S, seconds_left / 4))
        return TimeShare(min(2 * seconds_left / ways_left, 0.7 * stop), stop)


def measure_ways(
    cases: Sequence[TrainingCase], seconds: float, log: Path, record: Record, program: Sequence[str] = ()
) -> None:
    """Call `record` for each case, of one way each, in their order: its figures, or {"problem": what happened}.

    Returns after about so many seconds; what is left then is recorded as not run. `program` stands in for this file.
    """
    ends = time.monotonic() + seconds
    left = list(cases)
    while left:
        if ends - time.monotonic() < LEAST_S:
            for case in left:
                record(case, {"problem": "not run: no time was left"})
            return
        left = left[_run_process(left, ends, log, record, program) :]


def _run_process(cases: Sequence[TrainingCase], ends: float, log: Path, record: Record, program: Sequence[str]) -> int:
    """Run a process until a way is over its time or the process ends; the number of cases that are done with."""
    lines = log.with_suffix(".jsonl")
    lines.write_bytes(b"")
    raw_cases = [case.dump() for case in cases]
    request = json.dumps({"cases": raw_cases, "seconds": ends - time.monotonic(), "lines": str(lines)})
    command = [*(program or (sys.executable, "-m", "flows.bench.training_worker")), request]
    done = 0
    started = time.monotonic()
    with ChildProcess(command, log=log, cwd=ROOT, env={**os.environ, **ENVIRONMENT}) as process:
        while True:
            status = process.poll()  # before the lines are read, so that none is missed
            text = lines.read_text(encoding="utf-8")
            for line in text[: text.rfind("\n") + 1].splitlines()[done:]:
                record(cases[done], json.loads(line))
                done, started = done + 1, time.monotonic()
            if done == len(cases) or (status == _RESTART and done):
                return done
            if status is not None:
                end_of_log = " ".join(process.tail(_LOG_LINES).split())[-300:]
                record(cases[done], {"problem": f"failed: the process ended with status {status}: {end_of_log}"})
                return done + 1
            stop = TimeShare.of(ends - started, len(cases) - done).stop
            if time.monotonic() - started > stop:
                record(cases[done], {"problem": f"stopped after {stop:.0f} s, its share of the time"})
                return done + 1
            time.sleep(_POLL_S)


def run_cases(request: str) -> int:
    """What the process does; the exit status."""
    task = json.loads(request)
    cases = [TrainingCase.load(text) for text in task["cases"]]
    ends = time.monotonic() + task["seconds"]
    with Path(task["lines"]).open("a", encoding="utf-8") as lines:
        for number, case in enumerate(cases):
            print(f"{case.name}, {case.ways[0]}", flush=True)
            figures = _run_case(case, TimeShare.of(ends - time.monotonic(), len(cases) - number).aim)
            lines.write(json.dumps(figures) + "\n")
            lines.flush()
            if figures.get("problem", "").startswith("failed") or _bytes_left() > _LEFT_BYTES:
                return _RESTART
    return 0


def _run_case(case: TrainingCase, seconds: float) -> Figures:
    """Figures of a case's way, with its predicted speed-up and the model's shape; what goes wrong is its problem."""
    import torch

    try:
        figures = run_way(case, seconds)
        by_step: Figures = figures.pop(case.ways[0])
        if not all(map(math.isfinite, by_step["losses"])):
            return {"problem": f"failed: its losses are {by_step['losses']}"}
        return by_step | figures
    except torch.OutOfMemoryError as error:
        print(error, flush=True)
        return {"problem": "out of memory"}
    except Exception as error:  # whatever it is, it is this way's result, and the others still run
        print(f"{type(error).__name__}: {error}", flush=True)
        first_line = str(error).partition("\n")[0][:200]
        return {"problem": f"failed: {type(error).__name__}: {first_line}"}


def _bytes_left() -> int:
    """What the way before has left on the GPU, once all that nothing refers to is freed."""
    import torch

    gc.collect()
    if not torch.cuda.is_available():
        return 0
    with contextlib.suppress(RuntimeError):  # of a GPU that failed: a fresh process will see
        torch.cuda.empty_cache()
        return torch.cuda.memory_allocated()
    return sys.maxsize


if __name__ == "__main__":
    sys.exit(run_cases(sys.argv[1]))
