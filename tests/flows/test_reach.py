"""Servers that a build starts itself, and shards on workers: what is refused, and where."""

import socket
from pathlib import Path
from typing import Any

import pytest

from flows import reach
from flows.bench.common import stub_recipe
from flows.reach import check_reach, check_workers_reach
from infra.errors import RecipeError, ServingError
from infra.recipe import Recipe
from infra.running.remote_runs import Pool


def recipe_of(folder: Path, *urls: str) -> Recipe:
    policy: dict[str, Any] = {"serve": {"model_path": "microworld"}, "endpoints": list(urls)}
    recipe = stub_recipe(folder, "http://127.0.0.1:1/v1", execution={"shard_deployment": "shard/longmill-shard"})
    settings = recipe.model_dump(mode="json")
    settings["policy"] |= policy
    return Recipe.model_validate(settings)


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


def test_runs_in_containers_cannot_use_servers_that_a_build_starts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "pool_of", lambda _: Pool("cluster", 1, 4, "kubernetes"))
    with pytest.raises(RecipeError, match=r"pool cluster \(kubernetes\).*policy\.endpoints"):
        check_workers_reach(recipe_of(folder))
    check_workers_reach(recipe_of(folder, "http://vllm:8000/v1"))  # one that runs already
    monkeypatch.setattr(reach, "pool_of", lambda _: Pool("longmill", 1, 4))
    check_workers_reach(recipe_of(folder))


def test_a_worker_on_another_host_names_the_server_it_cannot_reach(folder: Path, closed_port: int) -> None:
    recipe = recipe_of(folder, f"http://127.0.0.1:{closed_port}/v1")
    with pytest.raises(ServingError, match=r"server of policy.*build on gpu-7"):
        check_reach(recipe, "gpu-7")
    check_reach(recipe, socket.gethostname())  # there its server may just be starting again
    check_reach(recipe, "")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        check_reach(recipe_of(folder, f"http://127.0.0.1:{listening.getsockname()[1]}/v1"), "gpu-7")
