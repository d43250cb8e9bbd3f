"""Longmill as it is deployed: `longmill deploy` on the session's Prefect server, and a worker of its own processes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.running.processes import ChildProcess

ROOT = Path(__file__).parents[2]
WAIT_S = 150  # a flow run on a worker is a Python of its own: ten seconds and more on a busy machine


def prefect_environment() -> dict[str, str]:
    """The environment of a process that is to find the session's Prefect server."""
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    return {
        **os.environ,
        **settings.to_environment_variables(exclude_unset=True),
        "PREFECT_API_URL": str(settings.api.url),
        "PREFECT_HOME": str(settings.home),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # as in an activated environment
        "PYTHONPATH": str(ROOT),
    }


def deploy(folder: Path, *options: str) -> dict[str, str]:
    """Run `longmill deploy` in `folder`, as a script would; returns what became of each thing, by its name."""
    ended = subprocess.run(
        [sys.executable, "-m", "flows.cli", "deploy", "--json", *options],
        cwd=folder,
        env=prefect_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return {thing["name"]: thing["outcome"] for thing in json.loads(ended.stdout)}


@contextmanager
def running_worker(folder: Path) -> Iterator[ChildProcess]:
    """A worker for the queue `default`: it runs every deployment but training and evaluation."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "longmill", "--work-queue", "default"]
    with ChildProcess(command, log=folder / "worker.log", env=prefect_environment(), cwd=folder) as worker:
        yield worker


def run_on_worker(deployment: str, **parameters: Any) -> Any:
    """Start a deployment's flow run and wait for its end, as a person does in the UI; returns the flow run."""
    from prefect.deployments import run_deployment

    return run_deployment(deployment, parameters=parameters, timeout=WAIT_S, poll_interval=0.5, as_subflow=False)


def runs_of(flow_name: str) -> list[Any]:
    """All flow runs of a flow, oldest first."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName

    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[flow_name])), limit=200)
    return sorted(runs, key=lambda run: run.created)
