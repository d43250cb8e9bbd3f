"""Threads for the task runs of a flow run."""

import contextlib
import contextvars
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from infra.errors import LongmillError
from tasks.resources import RunResources
from tasks.step_tasks import Submit

TASKS_AT_ONCE = 8  # of a kind in flight: the next one's calls are ready when the last one's run out


@contextlib.contextmanager
def task_threads(resources: RunResources, name: str, stopped: threading.Event) -> Iterator[Submit]:
    """A few threads for task runs of the current flow run.

    When the block fails, what has not started is dropped and what runs comes to its end, recorded; when it is
    interrupted, calls in flight get `execution.grace_s`.
    """
    pool = ThreadPoolExecutor(TASKS_AT_ONCE)

    def submit(work: Any, *arguments: Any) -> Future[Any]:
        if stopped.is_set():
            raise LongmillError(f"{name} was stopped, because another part of it has failed")
        # Each task run needs a context of its own to find the flow run.
        return pool.submit(contextvars.copy_context().run, work, *arguments)

    try:
        yield submit
    except BaseException as error:
        stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)
        if not isinstance(error, Exception):
            resources.stop_at_signal()
        raise
    finally:
        pool.shutdown()
