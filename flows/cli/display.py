"""What the terminal shows: one progress display while work runs, then tables, then paths.

Progress goes to standard error, so that standard output holds the outcome alone. Where standard error is no
terminal (a log, a pipe) nothing is drawn twice: a stage is a line when it ends.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from infra.running import progress
from infra.running.progress import Step

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TELL_EVERY_S = 60.0  # of a stage that still moves, where nothing can be drawn again


class CountColumn(ProgressColumn):
    """How much of a stage is done, and of how much where that is known."""

    def render(self, task: Task) -> Text:
        done = f"{int(task.completed):,}"
        return Text(done if task.total is None else f"{done}/{int(task.total):,}", justify="right")


class StageTimeColumn(ProgressColumn):
    """How long a stage has taken, up to its last step: a stage of unknown length stops with its work."""

    def render(self, task: Task) -> Text:
        last = task.fields["last"] if task.total is None else task.finished_time or task.elapsed
        return Text(str(timedelta(seconds=int(last or 0))))


@contextlib.contextmanager
def progress_display() -> Iterator[None]:
    """Show every stage that tells of itself (infra/progress.py): one line of one display each on a terminal, else
    a plain line when it ends and once in a while before."""
    shown = ProgressBars() if errors.is_terminal else PlainProgress(errors)
    lock = threading.Lock()

    def draw(step: Step) -> None:
        with lock:
            shown.draw(step)

    progress.watch(draw)
    try:
        with shown.live():
            yield
    finally:
        progress.watch(None)


@contextlib.contextmanager
def prefect_at(folder: Path) -> Iterator[None]:
    """A Prefect server for the command, its database under `folder`, unless PREFECT_API_URL names one."""
    from infra.running.prefect import local_server

    with local_server(folder / "prefect") as url:
        errors.print(f"[dim]Prefect shows the run at {url}[/]")
        yield


@contextlib.contextmanager
def calm(as_json: bool) -> Iterator[None]:
    """The progress display, or silence when the output is JSON."""
    if as_json:
        yield
    else:
        with progress_display():
            yield


class ProgressBars:
    """A bar for each stage, drawn again and again on a terminal."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=32),
            CountColumn(),
            StageTimeColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=errors,
        )
        self._lines: dict[str, TaskID] = {}

    def live(self) -> AbstractContextManager[Any]:
        """Draws while it is open."""
        return self._bars

    def draw(self, step: Step) -> None:
        if step.stage not in self._lines:
            self._lines[step.stage] = self._bars.add_task(step.stage, total=None, note="", last=0.0)
        line = self._lines[step.stage]
        fields: dict[str, Any] = {} if step.note is None else {"note": step.note}
        if step.total is not None:
            self._bars.reset(line, total=step.total, **fields)
        elapsed = next(task.elapsed for task in self._bars.tasks if task.id == line)
        self._bars.update(line, advance=step.done, last=elapsed, **fields)


@dataclass
class _Count:
    """Where a stage stands."""

    begun: float
    told: float
    last: float
    done: int = 0
    total: int | None = None


class PlainProgress:
    """A line when a stage ends, and every TELL_EVERY_S seconds while it moves: for files and pipes."""

    def __init__(self, to: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._to = to
        self._clock = clock
        self._counts: dict[str, _Count] = {}

    def live(self) -> AbstractContextManager[Any]:
        """Nothing to keep open."""
        return contextlib.nullcontext()

    def draw(self, step: Step) -> None:
        now = self._clock()
        count = self._counts.get(step.stage)
        if step.note and (count is None or not count.done):  # what it waits for before its first step
            self._to.print(f"{step.stage:<9} {step.note}", soft_wrap=True)
        rested = count is not None and count.total is None and now - count.last > TELL_EVERY_S / 2
        if count is None or rested or step.total is not None:
            count = self._counts[step.stage] = _Count(now, now, now, total=step.total)
        count.done += step.done
        count.last = now
        ended = step.done > 0 and count.done == count.total
        if ended or (step.done > 0 and now - count.told >= TELL_EVERY_S):
            count.told = now
            done = f"{count.done:,}" if count.total is None else f"{count.done:,}/{count.total:,}"
            self._to.print(f"{step.stage:<9} {done:>11}  {timedelta(seconds=int(now - count.begun))}", soft_wrap=True)


def table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    """A small table; the first column is text, the others are figures."""
    drawn = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for position, column in enumerate(columns):
        drawn.add_column(column, justify="left" if position == 0 else "right", overflow="fold")
    for row in rows:
        drawn.add_row(*map(Text, row))  # as text: an error or a name in square brackets is no markup
    return drawn


def finish(as_json: bool, outcome: Any, paths: list[tuple[str, str]]) -> None:
    """The last lines: the outcome as JSON, or the paths of what was made."""
    if as_json:
        print(json.dumps(outcome, ensure_ascii=False, indent=2))
        return
    for name, path in paths:
        print(f"{name}: {path}")
