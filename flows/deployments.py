"""What Longmill deploys, as `prefect.yaml` lists it: each flow that workers run, its queue, parameters and schedule."""

import functools
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from infra.running.registration import Deployment

FILE = Path(__file__).parents[1] / "prefect.yaml"
_NIGHTLY = "longmill-nightly"  # whose cron `longmill deploy --schedule` may name


@functools.cache
def deployments() -> tuple[Deployment, ...]:
    """All deployments, in the order of the file."""
    listed = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return tuple(_deployment(entry, listed["pull"]) for entry in listed["deployments"])


def _deployment(entry: dict[str, Any], pull_steps: list[dict[str, Any]]) -> Deployment:
    module, _, function = entry["entrypoint"].rpartition(".")
    crons = [schedule["cron"] for schedule in entry["schedules"]]
    return Deployment(
        name=entry["name"],
        flow=getattr(import_module(module), function),
        description=entry["description"],
        queue=entry["work_pool"]["work_queue_name"],
        job=entry["work_pool"]["job_variables"],
        pull_steps=pull_steps,
        parameters=entry.get("parameters", {}),
        cron=crons[0] if crons else "",
        cron_is_named=entry["name"] == _NIGHTLY,
        most_runs=entry.get("concurrency_limit"),
    )
