"""`longmill serve`: servers that several runs use, until Ctrl-C, with a stub in vLLM's place."""

import json
import os
import signal
from pathlib import Path

import pytest
import yaml

from flows.cli.doctor import require_machine
from flows.cli.serving import serve
from flows.recipes import read_recipe
from infra.errors import PrerequisiteError, RecipeError
from infra.models.client import Reply
from infra.serving.servers import restart_counts, restarts_since, serve_recipe
from tests.infra.serving.test_restarts import client_for, wait_for
from tests.support.command import Command
from tests.support.memory_ledger import MemoryLedger
from tests.support.planning import small_recipe
from tests.support.requests import requests
from tests.support.served_model import pids, stub_model


def recipe_file(folder: Path, **serving: object) -> Path:
    """A recipe as a file, whose policy is served by the stub."""
    recipe = small_recipe(folder).model_copy(update={"policy": stub_model(folder / "stub", **serving)})
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(json.loads(recipe.model_dump_json())))
    return path


@pytest.mark.slow
def test_runs_use_the_servers_until_ctrl_c(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = recipe_file(folder, replicas=2)
    home = tmp_path_factory.mktemp("home")
    command = Command(folder, home, "serve", str(path))
    recipe = read_recipe(str(path))
    command.when(lambda: any("policy: http://" in out.read_text() for out in home.glob("*.out")))
    for number in range(2):
        with serve_recipe(recipe) as running, client_for(running, MemoryLedger()) as client:
            assert len(running.policy.endpoints) == 2
            before = restart_counts(running)
            os.kill(pids(folder / "stub")[-1], signal.SIGKILL)
            outcomes = client.complete(requests(8, 2, text=str(number)))
            assert all(isinstance(outcome, Reply) for outcome in outcomes)
            wait_for(lambda: len(pids(folder / "stub")) == 3 + number)  # noqa: B023 - it is called in this turn
            assert restarts_since(before, running) == {"policy": 1}
            wait_for(lambda: all(map(is_up, running.policy.endpoints)))
    elsewhere = recipe.model_copy(update={"store": str(folder / "other")})
    with serve_recipe(elsewhere) as own:
        assert not set(own.policy.endpoints) & set(running.policy.endpoints)
    with pytest.raises(PrerequisiteError, match="is served already: http://"):
        serve(str(path))
    ended = command.signal(signal.SIGINT).ended()
    assert (ended.status, ended.err.splitlines()[-1]) == (0, "the servers have ended")
    assert all(url in ended.out for url in running.policy.endpoints)  # the order of free ports is chance
    assert command.left() == []
    with serve_recipe(recipe) as own:
        assert own.policy.endpoints != running.policy.endpoints


def is_up(url: str) -> bool:
    from infra.serving.records import read_record

    record = read_record(url)
    return record is not None and record.state == "up"


def test_a_recipe_whose_models_have_endpoints_has_nothing_to_serve(folder: Path) -> None:
    recipe = small_recipe(folder)
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(json.loads(recipe.model_dump_json())))
    with pytest.raises(RecipeError, match="there is nothing to serve"):
        serve(str(path))


@pytest.mark.medium
def test_the_ports_of_all_replicas_are_checked_before_a_run(folder: Path) -> None:
    with serve_recipe(read_recipe(str(recipe_file(folder)))) as running:
        (url,) = running.policy.endpoints
        port = int(url.removesuffix("/v1").rpartition(":")[2])
        recipe = read_recipe(str(recipe_file(folder, port=port - 1, replicas=2)))
        with pytest.raises(PrerequisiteError, match=f"port {port} on 127"):
            require_machine(recipe)
