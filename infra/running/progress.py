"""Progress of long work: which stage runs, how many units are done, how many there are.

Steps of the work call `expect`, `advance` and `note`, from any thread. The command line sets one watcher, which
draws them. Without a watcher, as on a worker, nothing happens: there, Prefect shows the task runs.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProgressUpdate:
    """An update of a stage: `done` more units, a new `total` of units, or a new `note`."""

    stage: str
    done: int = 0
    total: int | None = None
    note: str | None = None


Watcher = Callable[[ProgressUpdate], None]


@dataclass(slots=True)
class _Display:
    """The place where a process shows its progress: one per process, like its standard output."""

    watcher: Watcher | None = None

    def send(self, step: ProgressUpdate) -> None:
        watcher = self.watcher
        if watcher is not None:
            watcher(step)


_display = _Display()


def watch(watcher: Watcher | None) -> None:
    """Call `watcher` with every update from now on, in place of the watcher before; None ends watching."""
    _display.watcher = watcher


def expect(stage: str, total: int) -> None:
    """Set how many units `stage` has in all."""
    _display.send(ProgressUpdate(stage, total=total))


def advance(stage: str, done: int = 1) -> None:
    """Count `done` more units of `stage` as done."""
    _display.send(ProgressUpdate(stage, done=done))


def note(stage: str, text: str) -> None:
    """Show a short text beside `stage`: a loss, a retry, a server that starts."""
    _display.send(ProgressUpdate(stage, note=text))
