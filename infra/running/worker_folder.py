"""The folder that a flow run on a worker works in: that of the worker's own Longmill, never that of who deployed."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]


def enter_worker_folder() -> dict[str, str]:
    """Make Longmill's folder the current one: relative stores and recipes of a run lie there. A step of deployments."""
    os.chdir(ROOT)
    return {"directory": str(ROOT)}
