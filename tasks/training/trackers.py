"""Programs that draw the curves of trainings (`training.report_to`): TRL's trainer logs each step to them.

What they need (keys, servers, projects) they take from their own environment variables and log-ins. They do not change
what is trained.
"""

import importlib.util
import os
from pathlib import Path
from typing import Any

from infra.errors import PrerequisiteError
from infra.recipe import TrainingRun
from tasks.training.settings import RunFiles

_PROJECT = "longmill"  # where the environment names none


def check_trackers(settings: TrainingRun) -> None:
    """Raise PrerequisiteError where the package of a tracker is missing."""
    for name in settings.report_to:
        if importlib.util.find_spec(name) is None:
            raise PrerequisiteError(
                f"{settings.section}.report_to: the package {name} is missing in this environment; install it "
                f"(.venv/bin/pip install {name}), or take it out of report_to"
            )


def tracker_arguments(config: RunFiles) -> dict[str, Any]:
    """transformers' TrainingArguments for the trackers; names what the environment does not.

    The run has the name of the job, so that a training that goes on is the same run.
    """
    names = list(config.settings.report_to)
    if not names:
        return {"report_to": []}
    os.environ.setdefault("WANDB_PROJECT", _PROJECT)
    os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", _PROJECT)
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(Path(config.folder) / "tensorboard"))  # which stays
    project = os.environ.get("TRACKIO_PROJECT", _PROJECT)
    return {"report_to": names, "run_name": Path(config.folder).name, "project": project}
