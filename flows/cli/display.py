"""What the terminal shows: the progress of stages while work runs, then tables, then paths.

Progress goes to standard error, so that standard output holds the outcome alone. Where standard error is no terminal
(a log, a pipe) nothing can be drawn again: a stage is a line when it ends.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console, Group, JustifyMethod
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from infra.errors import WARNED
from infra.running import progress
from infra.running.progress import ProgressUpdate

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)
_SHORT = 12  # characters of a value that a narrow terminal does not break
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RecipeOrModels = Annotated[
    str,
    typer.Argument(
        help="Recipe file (YAML), or the name of one in the box; without it, --model and --suite say all.",
        metavar="RECIPE",
    ),
]
ServedTokenizer = Annotated[
    str, typer.Option(help="Without a recipe: folder or name of the tokenizer; else the server is asked.")
]
ServedWindow = Annotated[
    int, typer.Option(min=0, help="Without a recipe: tokens of prompt and answer; 0: the server is asked.")
]
StoreWithoutRecipe = Annotated[
    str, typer.Option(help="Without a recipe: folder or URL of the store; else LONGMILL_STORE, else mill.")
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="Change a recipe key: --set sampling.samples=8.", metavar="KEY=VALUE")
]
StoreUrl = Annotated[str, typer.Option(help="Folder or URL of the store; else LONGMILL_STORE, else mill.")]
LINE_INTERVAL_S = 60.0  # between two lines of a stage that has not ended, where nothing can be drawn again


class CountColumn(ProgressColumn):
    """The steps of a stage that are done, and how many there are, if that is clear yet."""

    def render(self, task: Task) -> Text:
        """The text for one stage."""
        done = f"{int(task.completed):,}"
        return Text(done if task.total is None else f"{done}/{int(task.total):,}", justify="right")


class StageTimeColumn(ProgressColumn):
    """The time that a stage has taken. Without a total nobody sees its end: its time is that of its last step."""

    def render(self, task: Task) -> Text:
        """The text for one stage."""
        seconds = task.fields["last_step_s"] if task.total is None else task.finished_time or task.elapsed
        return Text(str(timedelta(seconds=int(seconds or 0))))


@contextlib.contextmanager
def progress_display() -> Iterator[None]:
    """Show the stages that report steps (infra/running/progress.py): as bars on a terminal, else as lines."""
    display = ProgressBars() if errors.is_terminal else PlainProgress(errors)
    lock = threading.Lock()

    def draw(step: ProgressUpdate) -> None:
        with lock:
            if step.says:
                errors.print(Text(step.note or ""), soft_wrap=True)
            else:
                display.draw(step)

    progress.watch(draw)
    try:
        with display.live():
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
def progress_unless_json(as_json: bool) -> Iterator[None]:
    """The progress display; nothing when the output is JSON."""
    if as_json:
        yield
    else:
        with progress_display():
            yield


class ProgressBars:
    """A bar for each stage, for a terminal."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=32),
            CountColumn(),
            StageTimeColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=errors,
        )
        self._bar_of_stage: dict[str, TaskID] = {}
        self._figures = ""

    def live(self) -> AbstractContextManager[Any]:
        """Draws the bars, and a line of figures under them, while the block runs."""
        return Live(console=errors, get_renderable=self._page)

    def _page(self) -> Group:
        lines = [Text(self._figures, "dim")] if self._figures else []
        return Group(self._bars, *lines)

    def draw(self, step: ProgressUpdate) -> None:
        """Show a step on its stage's bar; the first step of a stage adds the bar."""
        if step.figures:
            self._figures = step.note or ""
            return
        if step.stage not in self._bar_of_stage:
            self._bar_of_stage[step.stage] = self._bars.add_task(step.stage, total=None, note="", last_step_s=0.0)
        bar = self._bar_of_stage[step.stage]
        fields: dict[str, Any] = {} if step.note is None else {"note": step.note}
        if step.total is not None:
            self._bars.reset(bar, total=step.total, **fields)
        for task in self._bars.tasks:
            if task.id == bar:
                self._bars.update(bar, advance=step.done, last_step_s=task.elapsed, **fields)


@dataclass
class _Stage:
    """The state of a stage; times are seconds of the clock."""

    started: float
    last_line: float
    last_step: float
    done: int = 0
    total: int | None = None


class PlainProgress:
    """A line when a stage ends, and every LINE_INTERVAL_S seconds while it has steps: for files and pipes."""

    def __init__(self, output: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._output = output
        self._clock = clock
        self._stages: dict[str, _Stage] = {}
        self._last_wait: dict[str, float] = {}  # when a wait of a stage was printed
        self._last_figures = clock()

    def live(self) -> AbstractContextManager[Any]:
        """Does nothing: lines need no preparation."""
        return contextlib.nullcontext()

    def draw(self, step: ProgressUpdate) -> None:
        """Count a step; print a line if its stage has ended or the last line is old."""
        now = self._clock()
        if step.figures:
            if step.note and now - self._last_figures >= LINE_INTERVAL_S:
                self._output.print(step.note, soft_wrap=True)
                self._last_figures = now
            return
        stage = self._stages.get(step.stage)
        first = stage is None or not stage.done  # what the stage waits for before its first step
        if step.waits:
            first = now - self._last_wait.get(step.stage, -LINE_INTERVAL_S) >= LINE_INTERVAL_S
        if step.note and first:
            self._output.print(f"{step.stage:<9} {step.note}", soft_wrap=True)
            self._last_wait[step.stage] = now
        if step.waits:
            return
        # A stage that gets a total starts anew; one without a total does after a pause: in the next round.
        paused = stage is not None and stage.total is None and now - stage.last_step > LINE_INTERVAL_S / 2
        if stage is None or paused or step.total is not None:
            stage = self._stages[step.stage] = _Stage(now, now, now, total=step.total)
        stage.done += step.done
        stage.last_step = now
        ended = step.done > 0 and stage.done == stage.total
        if ended or (step.done > 0 and now - stage.last_line >= LINE_INTERVAL_S):
            stage.last_line = now
            done = f"{stage.done:,}" if stage.total is None else f"{stage.done:,}/{stage.total:,}"
            elapsed = timedelta(seconds=int(now - stage.started))
            self._output.print(f"{step.stage:<9} {done:>11}  {elapsed}", soft_wrap=True)


def table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    """A small table; the first column is text, the others are figures. Short values are never broken."""
    result = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for position, column in enumerate(columns):
        longest = max(map(cell_len, (row[position] for row in rows)), default=0)
        justify: JustifyMethod = "left" if position == 0 else "right"
        width = max(longest, *map(cell_len, column.split() or [""])) if longest <= _SHORT else None
        result.add_column(column, justify=justify, overflow="fold", min_width=width)
    for row in rows:
        result.add_row(*map(Text, row))  # as text: an error or a name in square brackets is no markup
    return result


def text_table(title: str, rows: list[list[str]]) -> Table:
    """A table of words without a head."""
    result = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, show_header=False)
    for _ in rows[0] if rows else ():
        result.add_column(overflow="fold")
    for row in rows:
        result.add_row(*map(Text, row))
    return result


def finish(as_json: bool, outcome: Any, paths: list[tuple[str, str]]) -> None:
    """The last lines: the outcome as JSON, or (name, path) of what was made."""
    if as_json:
        print(json.dumps(outcome, ensure_ascii=False, indent=2))
        return
    for name, path in paths:
        print(f"{name}: {path}")


def print_notes(notes: Iterable[str]) -> None:
    """What must be said beside a table, on standard error."""
    for note in notes:
        errors.print(f"[yellow]note:[/] {escape(note)}", soft_wrap=True)


def end_with_notes(yields: Iterable[Mapping[str, Any]]) -> None:
    """Say what must be said of the datasets of a run, by their yields; ends the verb with WARNED after a warning."""
    warned = False
    for dataset_yield in yields:
        print_notes(filter(None, (dataset_yield["smaller"], dataset_yield["warning"])))
        warned = warned or bool(dataset_yield["warning"])
    if warned:
        raise typer.Exit(WARNED)


def evaluation_pages(name: str, outcome: Mapping[str, Any]) -> Iterator[Table | str]:
    """The tables of an evaluation, suite by suite, and in words what its questions can show."""
    from tasks.reporting.comparison_tables import macro_rows, metric_rows, word_lines

    for label, of_suite in outcome["suites"].items():
        yield table(f"{name}: {label}", *metric_rows(of_suite))
        columns, rows = macro_rows(of_suite)
        if rows:
            yield table("", columns, rows)
        yield from word_lines(of_suite)
