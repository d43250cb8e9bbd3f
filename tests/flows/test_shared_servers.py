"""Servers run once where a recipe asks its questions and builds over them; a second round has its own."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows import improve
from infra.recipe import Recipe
from infra.serving.servers import RecipeServers
from tests.support.asking import asking_recipe

SERVE = {"name": "tiny", "tokenizer": "microworld", "serve": {"model_path": "microworld"}}
URL = ("http://127.0.0.1:7/v1",)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What happens, in its order: servers, asking, and the endpoints that each round is given."""
    happened: list[Any] = []

    @contextlib.contextmanager
    def start_servers(recipe: Recipe, *, waiting: bool = False) -> Iterator[RecipeServers]:
        happened.append("start")
        yield RecipeServers(recipe, running=dict.fromkeys(recipe.models(), URL))
        happened.append("end")

    def with_questions(recipe: Recipe) -> Recipe:
        happened.append(("ask", recipe.policy.endpoints))
        return recipe.model_copy(update={"documents": None, "asking": None})

    def run_round(recipe: Recipe, number: int, served: Recipe) -> dict[str, Any]:
        happened.append((number, recipe.policy.endpoints, served.policy.endpoints))
        return {"trained": {}}

    monkeypatch.setattr(improve, "start_servers", start_servers)
    monkeypatch.setattr(improve, "with_questions", with_questions)
    monkeypatch.setattr(improve, "run_round", run_round)
    monkeypatch.setattr(improve, "next_policy", lambda recipe, trained: recipe)
    return happened


def served_recipe(folder: Path, **sections: Any) -> Recipe:
    return asking_recipe(folder, policy=SERVE, judge={**SERVE, "prompts": "terse"}, training={}, **sections)


def test_asking_and_the_first_round_share_servers_and_the_second_round_has_its_own(
    tmp_path: Path, events: list[Any]
) -> None:
    improve.run_rounds(served_recipe(tmp_path), 2)
    assert events == ["start", ("ask", URL), (1, (), URL), "end", (2, (), ())]


def test_a_recipe_without_documents_starts_none_here(tmp_path: Path, events: list[Any]) -> None:
    recipe = served_recipe(tmp_path).model_copy(update={"documents": None, "asking": None})
    improve.run_rounds(recipe, 1)
    assert events == [("ask", ()), (1, (), ())]


def test_shards_that_run_elsewhere_have_their_own_servers(tmp_path: Path, events: list[Any]) -> None:
    improve.run_rounds(served_recipe(tmp_path, execution={"shard_deployment": "shard/pool"}), 1)
    assert events == [("ask", ()), (1, (), ())]
