"""Builds in processes of their own that start at once: one process imports everything, and each build is a fork of it.

`python -m tests.support.forked_builds` reads requests from standard input, a line of JSON each, and answers each with a
line when its build has ended, however it ended. `Forks` is the test's side. A build may be given a death: kill -9 at
the first step of a kind on the way to its store (`Request.die_at`).
"""

import contextlib
import importlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.recipe import Recipe

ROOT = Path(__file__).parents[2]
_IMPORTED_ONCE = (  # what a build would else import in each fork
    "flows.build",
    "infra.store.objects",
    "prefect.artifacts",
    "prefect.concurrency.v1.context",
    "prefect.engine",
    "prefect.flow_engine",
    "prefect.task_engine",
    "prefect.telemetry.run_telemetry",
    "prefect.utilities.visualization",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "PIL.PngImagePlugin",
    "scipy.stats",
)
_NAMES = re.compile(r"[0-9a-f]{16,}|\b\d{4}\b|(data|evidence)/(train|test)|(?<=plots/)[a-z-]+")


@dataclass(frozen=True)
class Outcome:
    """How a build ended: its status (`os.waitpid`), what the flow returned or raised, and its steps to the store."""

    status: int
    seconds: float
    built: dict[str, Any] | None = None
    error: str = ""
    steps: list[str] = field(default_factory=list)

    @property
    def was_killed(self) -> bool:
        """Whether it died of kill -9."""
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL


class Forks:
    """The process that forks, for as long as the block of `forked_builds` runs."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._started = 0
        self._outcomes: dict[int, Outcome] = {}

    def start(self, recipe: Recipe, **options: Any) -> int:
        """Start a build; returns its number. For the options see `Request`."""
        self._started += 1
        request = {"number": self._started, "recipe": recipe.model_dump(mode="json"), **options}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._started

    def outcome(self, number: int) -> Outcome:
        """Wait for the end of a build."""
        assert self._process.stdout is not None
        while number not in self._outcomes:
            answer = json.loads(self._process.stdout.readline())
            ended = answer.pop("number")
            self._outcomes[ended] = Outcome(**answer)
        return self._outcomes[number]

    def run(self, recipe: Recipe, **options: Any) -> Outcome:
        """Run a build to its end."""
        return self.outcome(self.start(recipe, **options))


@contextlib.contextmanager
def forked_builds(environment: Mapping[str, str]) -> Iterator[Forks]:
    """The process that forks, in this environment: that of the Prefect server above all."""
    command = [sys.executable, "-m", "tests.support.forked_builds"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=dict(environment), stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Forks(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(30)
            finally:
                process.kill()


@dataclass(frozen=True)
class Request:
    """`die_at`: the kind of step at which the build is killed, as `step_kind` has it. `clock_s`: its clock is ahead."""

    number: int
    recipe: dict[str, Any]
    die_at: str = ""
    clock_s: float = 0.0


def step_kind(step: str) -> str:
    """A step without hashes, numbers of shards, and what tells files of the same work: `half plans/*/shards/*.json`."""
    return _NAMES.sub("*", step)


def main() -> None:
    """Fork a build for each request, and answer when it has ended; return when there are no more requests."""
    for module in _IMPORTED_ONCE:
        importlib.import_module(module)
    from infra.models.tokens import load_tokenizer

    load_tokenizer("microworld")
    running: dict[int, tuple[int, Path, float]] = {}
    more = True
    with tempfile.TemporaryDirectory() as folder:
        while more or running:
            if more and select.select([sys.stdin], [], [], 0.02)[0]:
                line = sys.stdin.readline()
                more = bool(line)
                if line:
                    request = Request(**json.loads(line))
                    report = Path(folder) / f"{request.number}.json"
                    start = time.monotonic()
                    child = os.fork()
                    if child == 0:
                        _build_and_exit(request, report)
                    running[child] = (request.number, report, start)
            child, status = os.waitpid(-1, os.WNOHANG) if running else (0, 0)
            if child:
                number, report, start = running.pop(child)
                answer = json.loads(report.read_text()) if report.exists() else {}
                answer |= {"number": number, "status": status, "seconds": time.monotonic() - start}
                print(json.dumps(answer), flush=True)


def _build_and_exit(request: Request, report: Path) -> None:
    """Run the build of a request, in the forked process; never returns."""
    os.dup2(2, 1)  # standard output is for the answers
    answer: dict[str, Any] = {}
    try:
        from flows.build import build
        from infra.recipe import parse_recipe

        recipe = parse_recipe(request.recipe)
        answer["steps"] = _watch_steps(Path(recipe.store), request.die_at)
        if request.clock_s:
            _set_clock(request.clock_s)
        answer["built"] = build(recipe)
    except BaseException as error:
        answer["error"] = f"{type(error).__name__}: {error}"
    report.write_text(json.dumps(answer))
    os._exit(0)


def _watch_steps(root: Path, die_at: str) -> list[str]:
    """Note the steps by which files come into a local store, and end the process at the first of the kind `die_at`.

    Of each file: `half`, with half of it written under its temporary name, and `named`, with its name and before the
    writer goes on. `link` is before a file gets a second name, `unlink` before a removal.
    """
    from infra.store import local

    write_synced, sync_folder, temporary_file = local._write_synced, local._sync_folder, local._temporary_file
    link, delete = os.link, local.LocalFolder.delete
    steps: list[str] = []
    lock = threading.Lock()
    current = threading.local()  # the file that this thread writes

    def take(kind: str, path: Any) -> None:
        step = f"{kind} {os.path.relpath(path, root)}"
        with lock:
            steps.append(step)
            if step_kind(step) == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    @contextlib.contextmanager
    def watched_file(target: Path) -> Iterator[Path]:
        current.path = target
        with temporary_file(target) as temporary:
            yield temporary

    def watched_write(path: Path, data: bytes) -> None:
        path.write_bytes(data[: len(data) // 2])
        take("half", current.path)
        path.unlink()
        write_synced(path, data)

    def watched_sync(folder: Path) -> None:
        take("named", current.path)
        sync_folder(folder)

    def watched_link(source: Any, target: Any) -> None:
        if not str(source).endswith(".part"):
            take("link", target)
            current.path = target
        link(source, target)

    def watched_delete(folder: Any, *paths: str) -> None:
        for path in paths:
            take("unlink", folder.root / path)
            delete(folder, path)

    local._temporary_file = watched_file
    local._write_synced = watched_write
    local._sync_folder = watched_sync
    local.LocalFolder.delete = watched_delete  # type: ignore[method-assign]
    os.link = watched_link
    return steps


def _set_clock(ahead_s: float) -> None:
    """Let the process read another time of day, as on a host whose clock is wrong."""
    clock = time.time
    time.time = lambda: clock() + ahead_s


if __name__ == "__main__":
    main()
