"""Evaluation's servers: adapters go into the running one, what it refuses goes to a second one."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows import evaluate as module
from infra.errors import EvaluationError, ServingError
from infra.recipe import Execution, Model, Recipe
from tests.support.planning import pooled_rows, small_recipe

ENDPOINTS = ["http://127.0.0.1:9/v1", "http://127.0.0.1:10/v1"]
SERVE = {"model_path": "microworld", "python": "/usr/bin/python3", "port": 8123}


def trained(folder: Path, kind: str = "adapter") -> dict[str, Any]:
    (folder / "mill" / "models" / "small" / "abc").mkdir(parents=True)
    return {"model": "models/small/abc", "name": "small-abc", "revision": "abc", "kind": kind}


def recipe_for(folder: Path, serve: dict[str, Any] | None = None, **sections: Any) -> Recipe:
    return small_recipe(folder, policy={"endpoints": ENDPOINTS, "serve": serve}, **sections)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """(url, name, folder's name) of each adapter that was loaded."""
    calls: list[tuple[str, str, str]] = []
    monkeypatch.setattr(
        module, "load_adapter", lambda url, name, folder, key: calls.append((url, name, folder.name)) or None
    )
    return calls


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> list[Model]:
    """The models for which a second server was started."""
    started: list[Model] = []

    @contextlib.contextmanager
    def serve(model: Model, *, log: Path, execution: Execution, adapters: bool) -> Iterator[str]:
        assert not adapters
        started.append(model)
        yield "http://127.0.0.1:11/v1"

    monkeypatch.setattr(module, "serve", serve)
    monkeypatch.setattr(module, "merge_adapter", lambda folder, target: target)
    return started


def refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_adapter(url: str, *_: Any) -> None:
        raise ServingError(f"{url} did not load the adapter")

    monkeypatch.setattr(module, "load_adapter", load_adapter)


def test_an_adapter_is_loaded_at_every_endpoint(
    folder: Path, loaded: list[tuple[str, str, str]], second: list[Model]
) -> None:
    with module.trained_recipe(recipe_for(folder, SERVE), trained(folder)) as improved:
        assert (improved.policy.name, improved.policy.revision) == ("small-abc", "abc")
        assert list(improved.policy.endpoints) == ENDPOINTS
    assert loaded == [(url, "small-abc", "abc") for url in ENDPOINTS]
    assert second == []


def test_an_adapter_that_the_server_refuses_is_merged_for_a_second_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch, second: list[Model]
) -> None:
    refuse(monkeypatch)
    with module.trained_recipe(recipe_for(folder, SERVE), trained(folder)) as improved:
        assert improved.policy.endpoints == ("http://127.0.0.1:11/v1",)
        assert (improved.policy.name, improved.policy.revision) == ("small-abc", "abc")
    (model,) = second
    assert model.serve is not None
    assert Path(model.serve.model_path).name == "abc-merged"
    assert model.serve.port == 0  # the recipe's own port is the first server's


def test_where_an_adapter_is_slow_the_merged_model_is_served(
    folder: Path, monkeypatch: pytest.MonkeyPatch, loaded: list[tuple[str, str, str]], second: list[Model]
) -> None:
    monkeypatch.setattr(module.hardware, "slow_with_adapters", lambda folder: True)
    outcome = trained(folder)
    with module.trained_recipe(recipe_for(folder, SERVE), outcome) as improved:
        assert improved.policy.endpoints == ("http://127.0.0.1:11/v1",)
        assert (improved.policy.name, improved.policy.revision) == ("small-abc", "abc")
    (model,) = second
    assert model.serve is not None
    assert Path(model.serve.model_path).name == "abc-merged"
    assert loaded == []
    with module.trained_recipe(recipe_for(folder), outcome):  # no other server can be started
        assert [url for url, _, _ in loaded] == ENDPOINTS


def test_an_adapter_that_the_server_refuses_is_an_error_when_no_other_can_be_started(
    folder: Path, monkeypatch: pytest.MonkeyPatch, second: list[Model]
) -> None:
    refuse(monkeypatch)
    with (
        pytest.raises(ServingError, match="did not load"),
        module.trained_recipe(recipe_for(folder), trained(folder)),
    ):
        pass
    assert second == []


def test_an_error_while_the_adapter_answers_starts_no_second_server(
    folder: Path, loaded: list[tuple[str, str, str]], second: list[Model]
) -> None:
    with (
        pytest.raises(ServingError, match="while it was needed"),
        module.trained_recipe(recipe_for(folder, SERVE), trained(folder)),
    ):
        raise ServingError("vLLM ended while it was needed")
    assert second == []


def test_a_full_model_is_served_by_a_second_server(folder: Path, second: list[Model]) -> None:
    with module.trained_recipe(recipe_for(folder, SERVE), trained(folder, "full")) as improved:
        assert improved.policy.endpoints == ("http://127.0.0.1:11/v1",)
    (model,) = second
    assert model.serve is not None
    assert model.serve.model_path == str(folder / "mill" / "models" / "small" / "abc")


def test_a_full_model_needs_a_server_to_be_started(folder: Path) -> None:
    with (
        pytest.raises(EvaluationError, match=r"policy\.serve"),
        module.trained_recipe(recipe_for(folder), trained(folder, "full")),
    ):
        pass


def test_a_recipe_without_evaluation_is_refused_before_a_server_starts(folder: Path) -> None:
    recipe = recipe_for(folder).model_copy(update={"evaluation": None})
    with pytest.raises(EvaluationError, match="no `evaluation` section"):
        module.evaluate_models(recipe, None, None)


def test_questions_without_references_are_refused_before_a_call(folder: Path) -> None:
    small_recipe(folder, [{**row, "answers": []} for row in pooled_rows(3)])
    source = {"source": str(folder / "questions.jsonl")}
    contexts = {"build": "pooled", "min_tokens": 64, "max_tokens": 128, "step_tokens": 64}
    recipe = recipe_for(folder, evaluation={"questions": source, "contexts": contexts})
    with pytest.raises(EvaluationError, match=r"questions\.jsonl: no question has a reference answer"):
        module.evaluate_models(recipe, None, None)
