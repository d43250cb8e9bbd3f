"""Kill the processes of a training run in the middle of it, as when a machine goes down."""

import os
import signal
from collections.abc import Callable
from typing import Any

import psutil


def kill_at(step: int) -> Callable[[dict[str, Any]], None]:
    """For `on_step`: at that step, kill everything below this process, the supervisor first."""

    def act(record: dict[str, Any]) -> None:
        if record["step"] == step:
            for child in psutil.Process().children(recursive=True):
                os.kill(child.pid, signal.SIGKILL)

    return act
