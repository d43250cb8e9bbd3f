"""What the terminal shows: one progress display while work runs, then tables, then paths."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from infra import progress
from infra.progress import Step

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


class CountColumn(ProgressColumn):
    """How much of a stage is done, and of how much where that is known."""

    def render(self, task: Task) -> Text:
        done = f"{int(task.completed):,}"
        return Text(done if task.total is None else f"{done}/{int(task.total):,}", justify="right")


@contextlib.contextmanager
def progress_display() -> Iterator[None]:
    """Draw every stage that tells of itself (infra/progress.py) as one line of one display."""
    bars = Progress(
        TextColumn("{task.description:<9}"),
        BarColumn(bar_width=32),
        CountColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
        console=console,
    )
    lines: dict[str, TaskID] = {}
    lock = threading.Lock()

    def draw(step: Step) -> None:
        with lock:
            if step.stage not in lines:
                lines[step.stage] = bars.add_task(step.stage, total=None, note="")
            line = lines[step.stage]
            fields: dict[str, Any] = {} if step.note is None else {"note": step.note}
            if step.total is not None:
                bars.reset(line, total=step.total, **fields)
            bars.update(line, advance=step.done, **fields)

    progress.watch(draw)
    try:
        with bars:
            yield
    finally:
        progress.watch(None)


def table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    """A small table; the first column is text, the others are figures."""
    drawn = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for position, column in enumerate(columns):
        drawn.add_column(column, justify="left" if position == 0 else "right", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    return drawn
