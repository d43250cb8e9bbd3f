"""Kill the processes of a training run in the middle of it, as when a machine goes down."""

import os
import signal
from collections.abc import Callable
from typing import Any

import psutil


def kill_at(step: int) -> Callable[[dict[str, Any]], None]:
    """For `on_step`: at that step, kill what was started below this process since this call, the supervisor first."""
    earlier = set(psutil.Process().children(recursive=True))  # the tests' Prefect server is one of them

    def act(record: dict[str, Any]) -> None:
        if record["step"] == step:
            for child in psutil.Process().children(recursive=True):
                if child not in earlier:
                    os.kill(child.pid, signal.SIGKILL)

    return act
