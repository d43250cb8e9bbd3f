"""A signal with calls in flight: all are recorded, nothing has failed, and the next run pays for the rest."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.bench.common import stub_recipe, write_questions
from flows.cli.plan_state import plan_status
from infra.ledger import Ledger
from infra.recipe import Recipe
from infra.store import open_store
from tests.support.command import ROOT, Command
from tests.support.deployed import prefect_environment
from tests.support.stub_server import StubServer, running_stub

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SECONDS = 6.0  # that a call takes
IN_FLIGHT = 8


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with running_stub(latency=SECONDS) as server:
        yield server


def recipe_for(folder: Path, stub: StubServer, **execution: Any) -> Recipe:
    write_questions(folder / "questions.jsonl", 12, 600)
    execution = {"shard_size": 6, "concurrency": IN_FLIGHT} | execution
    recipe = stub_recipe(folder, stub.url, execution=execution, sampling={"samples": 4})
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")), encoding="utf-8")
    return recipe


def states(recipe: Recipe) -> set[str]:
    (plan,) = plan_status(recipe.store, "")
    return {shard["state"] for shard in plan["shards"]}


def recorded(recipe: Recipe) -> int:
    with Ledger(open_store(recipe.store)) as ledger:
        return ledger.entries


def test_calls_in_flight_at_a_signal_are_recorded_and_none_is_paid_again(folder: Path, stub: StubServer) -> None:
    recipe = recipe_for(folder, stub)
    command = Command(folder, folder, "build", "recipe.yaml")
    ended = command.when(lambda: stub.stats()["in_flight"] == IN_FLIGHT).signal(signal.SIGINT).ended()
    assert ended.status == 130
    assert "stopping: calls in flight get 60 s to be recorded" in ended.err
    last = ended.err.splitlines()[-1]
    assert last == "interrupted: what was paid for is kept, and the same command goes on from there"
    assert "Traceback" not in ended.err + ended.out
    assert command.left() == []
    assert recorded(recipe) == stub.requests == IN_FLIGHT
    assert states(recipe) == {"waiting"}

    stub.options.latency = 0.0
    again = Command(folder, folder, "build", "recipe.yaml").ended()
    assert again.status == 0, again.err
    assert (stub.stats()["answered"], stub.stats()["paid_twice"]) == (48, 0)


def test_a_second_signal_ends_the_command_at_once(folder: Path, stub: StubServer) -> None:
    stub.options.latency = 60.0
    recipe = recipe_for(folder, stub)
    command = Command(folder, folder, "build", "recipe.yaml")
    command.when(lambda: stub.stats()["in_flight"] == IN_FLIGHT).signal(signal.SIGTERM)
    command.when(lambda: any("stopping:" in log.read_text() for log in folder.glob("*.err")))
    time.sleep(1)
    before = time.monotonic()
    ended = command.signal(signal.SIGTERM).ended()
    assert ended.status == -signal.SIGTERM
    assert time.monotonic() - before < 5
    assert command.left() == []
    assert states(recipe) == {"waiting"}


SHARD = """
import sys
from pathlib import Path
from flows.build import plan_questions
from flows.recipes import read_recipe
from flows.shard import shard_recipe
from flows.workers import shard
recipe = read_recipe(sys.argv[1])
shard(shard_recipe(recipe), plan_questions.fn(recipe, recipe.name), [0])
"""


@pytest.mark.usefixtures("prefect")
def test_a_shard_on_a_worker_that_is_stopped_waits_for_the_next_build(folder: Path, stub: StubServer) -> None:
    recipe = recipe_for(folder, stub)
    with subprocess.Popen(
        [sys.executable, "-c", SHARD, "recipe.yaml"],
        cwd=folder,
        env=prefect_environment() | {"PYTHONPATH": str(ROOT), "HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            stub.wait_for(IN_FLIGHT, 90)
            process.terminate()
            output, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGTERM, output
    assert recorded(recipe) == stub.requests == IN_FLIGHT
    assert states(recipe) == {"waiting"}
