"""Prefect's server and its database, killed and started again while builds run, here and on a worker."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from infra.running.prefect import PATIENCE
from infra.running.processes import ChildProcess
from tests.support.forked_builds import ROOT, Forks, forked_builds
from tests.support.services import Service, needs_postgres, running_postgres, running_prefect
from tests.support.small_build import CALLS, IN_FLIGHT, dataset_files, small_recipe
from tests.support.stub_server import StubServer, running_stub

pytestmark = [pytest.mark.slow, needs_postgres, pytest.mark.timeout(900)]

AWAY_S = 4.0  # that a service stays away


@dataclass(frozen=True)
class Deployed:
    """The services, and processes that use them."""

    postgres: Service
    server: Service
    environment: dict[str, str]
    forks: Forks


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("services")
    with contextlib.ExitStack() as services:
        postgres, database = services.enter_context(running_postgres())
        server, environment = services.enter_context(running_prefect(database, folder))
        forks = services.enter_context(forked_builds(environment | PATIENCE))
        yield Deployed(postgres, server, environment, forks)


def restart_during(build: Callable[[], object], stub: StubServer, services: list[Service]) -> float:
    """Kill services when calls are in flight, start them a while later; returns the seconds until the build's end."""
    stub.hold()
    thread = threading.Thread(target=build)
    thread.start()
    stub.wait_for(IN_FLIGHT, 120)
    for service in services:
        service.kill()
    stub.release()
    time.sleep(AWAY_S)
    for service in services:
        service.start()
    start = time.monotonic()
    thread.join()
    return time.monotonic() - start


@pytest.mark.parametrize(("on_a_worker", "killed"), [(False, ["postgres"]), (True, ["postgres", "server"])])
def test_a_build_goes_on_when_the_services_come_back(
    folder: Path, deployed: Deployed, on_a_worker: bool, killed: list[str], figures: Callable[..., None]
) -> None:
    with running_stub() as stub, contextlib.ExitStack() as workers:
        recipe = small_recipe(folder, stub.url)
        undisturbed = deployed.forks.run(recipe)
        assert undisturbed.built, undisturbed.error
        execution = recipe.execution
        if on_a_worker:
            workers.enter_context(shard_worker(deployed, folder))
            execution = execution.model_copy(update={"shard_deployment": "shard/longmill-shard", "shards_per_run": 2})
        changes = {"store": str(folder / "disturbed"), "execution": execution}
        other = recipe.model_copy(update=changes)
        stub.requests = 0
        outcomes = []
        services = [getattr(deployed, name) for name in killed]
        seconds = restart_during(lambda: outcomes.append(deployed.forks.run(other)), stub, services)
        (outcome,) = outcomes
        assert outcome.built, outcome.error
        assert dataset_files(other.store, outcome.built) == dataset_files(recipe.store, undisturbed.built)
        paid_again = stub.stats()["answered"] - 2 * CALLS
        assert paid_again == 0
    figures(paid_again=paid_again, in_flight=IN_FLIGHT, away_s=AWAY_S, seconds=round(seconds, 1))


@contextlib.contextmanager
def shard_worker(deployed: Deployed, folder: Path) -> Iterator[None]:
    """The deployment of shards, and a worker that runs it in processes."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    job = {
        "command": f"{sys.executable} -m prefect.engine",
        "env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", **PATIENCE},
    }
    steps = [{"prefect.deployments.steps.set_working_directory": {"directory": str(ROOT)}}]
    api = deployed.environment["PREFECT_API_URL"]
    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="longmill", type="process"))
        client.create_deployment(
            client.create_flow_from_name("shard"),
            "longmill-shard",
            entrypoint="flows/workers.py:shard",
            pull_steps=steps,
            work_pool_name="longmill",
            job_variables=job,
        )
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "longmill"]
    environment = deployed.environment | {"PYTHONPATH": str(ROOT)}
    with ChildProcess(command, log=folder / "worker.log", env=environment, cwd=folder):
        yield
