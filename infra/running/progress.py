"""Progress of long work: which stage runs, how many units are done, how many there are.

Steps of the work call `expect`, `advance`, `note`, `wait`, `show_figures` and `say`, from any thread. The command line
sets one watcher, which draws them. Without a watcher, as on a worker, nothing happens: there, Prefect shows the task
runs.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ProgressUpdate:
    """An update of a stage: `done` more units, a new `total` of units, or a new `note`.

    `says`: the note is a line of its own, of which no stage knows. `waits`: it is what the stage waits for. `figures`:
    it stands under all stages, until the next one.
    """

    stage: str
    done: int = 0
    total: int | None = None
    note: str | None = None
    says: bool = False
    waits: bool = False
    figures: bool = False


_log = logging.getLogger(__name__)

Watcher = Callable[[ProgressUpdate], None]


@dataclass(slots=True)
class _Display:
    """The place where a process shows its progress: one per process, like its standard output."""

    watcher: Watcher | None = None
    listeners: list[Callable[[str], object]] = field(default_factory=list)  # to what is said

    def send(self, step: ProgressUpdate) -> None:
        watcher = self.watcher
        listeners = tuple(self.listeners) if step.says else ()
        for listener in listeners:
            listener(step.note or "")
        if watcher is not None:
            watcher(step)
        elif step.says and not listeners:
            _log.warning(step.note)


_display = _Display()


def watch(watcher: Watcher | None) -> None:
    """Call `watcher` with every update from now on, in place of the watcher before; None ends watching."""
    _display.watcher = watcher


@contextlib.contextmanager
def also_to(listener: Callable[[str], object]) -> Iterator[None]:
    """Call `listener` too with every line that is said while the block runs: a log."""
    _display.listeners.append(listener)
    try:
        yield
    finally:
        _display.listeners.remove(listener)


def expect(stage: str, total: int) -> None:
    """Set how many units `stage` has in all."""
    _display.send(ProgressUpdate(stage, total=total))


def advance(stage: str, done: int = 1) -> None:
    """Count `done` more units of `stage` as done."""
    _display.send(ProgressUpdate(stage, done=done))


def note(stage: str, text: str) -> None:
    """Show a short text beside `stage`: a loss, a retry, a server that starts."""
    _display.send(ProgressUpdate(stage, note=text))


def wait(stage: str, text: str) -> None:
    """Show what `stage` waits for: a rate limit. An empty text: it goes on."""
    _display.send(ProgressUpdate(stage, note=text, waits=True))


def show_figures(text: str) -> None:
    """Show how the whole run goes, in a line under its stages; an empty text takes it away."""
    _display.send(ProgressUpdate("", note=text, figures=True))


def say(text: str) -> None:
    """Print a line that the user must see: what the run has decided by itself. Without a watcher it is logged."""
    _display.send(ProgressUpdate("", note=text, says=True))
