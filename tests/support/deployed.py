"""Longmill as it is deployed: `longmill deploy` on the session's Prefect server, and a worker of its own processes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from flows.bench.common import stub_recipe, write_questions
from infra.recipe import Recipe
from infra.running.processes import ChildProcess
from tests.support.stub_server import StubServer

ROOT = Path(__file__).parents[2]
TRAINING = {"base": "microworld", "method": "lora"}
WAIT_S = 150  # a flow run on a worker is a Python of its own: ten seconds and more on a busy machine


def recipe_file(folder: Path, stub: StubServer, **sections: dict[str, Any]) -> tuple[Recipe, str]:
    """A recipe of twelve questions in two shards, and the file that it was written to."""
    write_questions(folder / "questions.jsonl", 12, 600)
    sections = {
        "sampling": {"samples": 4},
        "dataset": {"test_fraction": 0.2},
        "training": TRAINING,
    } | sections
    sections["execution"] = {"shard_size": 6, "attempts": 2, "task_retries": 0} | sections.get("execution", {})
    recipe = stub_recipe(folder, stub.url, **sections)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")), encoding="utf-8")
    return recipe, str(path)


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
def running_worker(folder: Path, checkout: Path = ROOT) -> Iterator[ChildProcess]:
    """A worker with the Longmill of `checkout`, for the queue `default`: all but training and evaluation."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "longmill", "--work-queue", "default"]
    environment = prefect_environment() | {"PYTHONPATH": str(checkout)}
    with ChildProcess(command, log=folder / "worker.log", env=environment, cwd=folder) as worker:
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
