"""A machine that goes down in the middle of a run."""

import os
import signal
from collections.abc import Callable
from typing import Any

import psutil


def kill_at(step: int) -> Callable[[dict[str, Any]], None]:
    """For `on_step`: at that step, kill everything below this process, keeper first."""

    def act(seen: dict[str, Any]) -> None:
        if seen["step"] == step:
            for child in psutil.Process().children(recursive=True):
                os.kill(child.pid, signal.SIGKILL)

    return act
