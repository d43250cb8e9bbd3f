"""What long work tells whoever watches: a stage, how far it is, how much there is.

Steps call `advance` and `expect` from any thread; the command line sets one watcher that draws them. With
no watcher, as on a worker, nothing happens: Prefect shows the task runs there.
"""

from collections.abc import Callable
from dataclasses import dataclass

Watcher = Callable[["Step"], None]
_watchers: list[Watcher] = []


@dataclass(frozen=True, slots=True)
class Step:
    """A stage has advanced by `done`, has a new `total`, or has something to say."""

    stage: str
    done: int = 0
    total: int | None = None
    note: str | None = None


def watch(watcher: Watcher | None) -> None:
    """Let `watcher` be told of every step; None takes all watchers away."""
    _watchers.clear()
    if watcher is not None:
        _watchers.append(watcher)


def expect(stage: str, total: int) -> None:
    """Say how many units `stage` has in all."""
    _tell(Step(stage, total=total))


def advance(stage: str, done: int = 1) -> None:
    """Say that `done` more units of `stage` are finished."""
    _tell(Step(stage, done=done))


def note(stage: str, text: str) -> None:
    """Say a few words on `stage`: a loss, a retry, a server that starts."""
    _tell(Step(stage, note=text))


def _tell(step: Step) -> None:
    for watcher in list(_watchers):
        watcher(step)
