"""Prefect's server and its database, killed and started again while builds run, here and on a worker."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from infra.running.processes import ChildProcess
from infra.running.prefect import PATIENCE
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
    with running_postgres() as (postgres, database), running_prefect(database, folder) as (server, environment):
        with forked_builds(environment | PATIENCE) as forks:
            yield Deployed(postgres, server, environment, forks)


def restart_during(build: Callable[[], object], stub: StubServer, services: list[Service]) -> float:
    """Kill the services when calls are in flight, start them a while later; returns the seconds until the build goes on."""
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


@pytest.mark.parametrize("killed", ["server", "postgres"])
def test_a_build_goes_on_when_a_service_comes_back(
    folder: Path, deployed: Deployed, killed: str, figures: Callable[..., None]
) -> None:
    with running_stub() as stub:
        recipe = small_recipe(folder, stub.url)
        undisturbed = deployed.forks.run(recipe)
        assert undisturbed.built, undisturbed.error
        other = recipe.model_copy(update={"store": str(folder / "disturbed")})
        stub.requests = 0
        outcomes = []
        seconds = restart_during(lambda: outcomes.append(deployed.forks.run(other)), stub, [getattr(deployed, killed)])
        (outcome,) = outcomes
        assert outcome.built, outcome.error
        assert dataset_files(other.store, outcome.built) == dataset_files(recipe.store, undisturbed.built)
        paid_again = stub.stats()["answered"] - 2 * CALLS
        assert paid_again == 0
    figures(paid_again=paid_again, in_flight=IN_FLIGHT, away_s=AWAY_S, seconds=round(seconds, 1))
