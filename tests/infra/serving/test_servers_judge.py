"""The judge's server beside the policy's: both start at once, errors name the right one, both end with the block."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from infra.errors import PrerequisiteError, RecipeError, ServingError
from infra.recipe import Recipe
from infra.serving.checks import free_port
from infra.serving.servers import serve_recipe
from tests.infra.serving.test_servers_life import recipe_for, seen
from tests.support.planning import small_recipe

RULES = {"name": "rule-based", "rule_based": True, "tokenizer": "microworld", "prompts": "terse"}


def with_judge(folder: Path, **judge: Any) -> Recipe:
    """A recipe whose policy has an endpoint and whose judge is started here."""
    return small_recipe(folder, judge={"tokenizer": "microworld", **judge})


def serving_judge(folder: Path, **program: Any) -> Recipe:
    """A recipe whose judge's vLLM is the stand-in of a test."""
    serve = recipe_for(folder, **program).policy.model_dump(mode="json")["serve"]
    return with_judge(folder, name="critic", serve=serve)


@pytest.mark.medium
def test_the_rule_based_judge_is_started_and_named(folder: Path) -> None:
    recipe = with_judge(folder, **RULES)
    with serve_recipe(recipe) as ready:
        assert ready.policy == recipe.policy
        assert ready.judge is not None
        (url,) = ready.judge.endpoints
        models = json.loads(urllib.request.urlopen(f"{url}/models", timeout=10).read())
        assert [model["id"] for model in models["data"]] == ["rule-based"]
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{url}/models", timeout=10)
    assert "rule-based judge" in (folder / "mill" / "logs" / "judge.log").read_text()


@pytest.mark.medium
def test_policy_and_judge_run_side_by_side_with_a_log_each(folder: Path) -> None:
    served = recipe_for(folder).policy
    recipe = with_judge(folder, **RULES).model_copy(update={"policy": served})
    with serve_recipe(recipe) as ready:
        assert ready.judge is not None
        assert ready.policy.endpoints != ready.judge.endpoints
        assert {path.name for path in (folder / "mill" / "logs").iterdir()} == {"vllm.log", "judge.log"}
    assert not Path(f"/proc/{seen(folder)['pid']}").exists()


@pytest.mark.medium
def test_a_judge_model_is_served_without_adapters(folder: Path) -> None:
    with serve_recipe(serving_judge(folder)) as ready:
        assert ready.judge is not None
        words = " ".join(seen(folder)["argv"])
        assert ready.judge.endpoints[0].removesuffix("/v1").rpartition(":")[2] in words
    assert "--served-model-name critic" in words
    assert "--enable-lora" not in words


@pytest.mark.medium
def test_a_judge_that_dies_while_it_starts_is_named_with_its_log(folder: Path) -> None:
    with pytest.raises(ServingError, match=r"status 1 while it started; the end of .*judge\.log(.|\n)*no memory"):
        serve_recipe(serving_judge(folder, dies=True)).__enter__()


@pytest.mark.parametrize(
    ("serve", "message"),
    [
        ({"python": "nowhere/bin/python"}, r"or set judge\.serve\.python .* or give judge\.endpoints"),
        ({"model_path": "/nowhere/model"}, r"judge\.serve\.model_path: /nowhere/model does not exist"),
    ],
)
def test_what_the_judge_lacks_is_named_by_its_own_keys(folder: Path, serve: dict[str, str], message: str) -> None:
    whole = recipe_for(folder).policy.model_dump(mode="json")["serve"]
    recipe = with_judge(folder, name="critic", serve={**whole, **serve})
    with pytest.raises(PrerequisiteError, match=message):
        serve_recipe(recipe).__enter__()


def test_two_servers_on_one_port_are_refused_before_either_starts(folder: Path) -> None:
    port = free_port()
    recipe = serving_judge(folder, port=port).model_copy(update={"policy": recipe_for(folder, port=port).policy})
    with pytest.raises(PrerequisiteError, match=f"both to listen on port {port}; give ports"):
        serve_recipe(recipe).__enter__()
    assert not (folder / "seen.json").exists()


def test_a_judge_with_endpoints_starts_nothing(folder: Path) -> None:
    recipe = with_judge(folder, **RULES, endpoints=["http://127.0.0.1:9/v1"])
    with serve_recipe(recipe) as ready:
        assert ready is recipe


@pytest.mark.parametrize("wrong", [{"name": "wise-1"}, {"prompts": "full"}, {"serve": {"model_path": "microworld"}}])
def test_a_rule_based_judge_never_passes_for_a_model(folder: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="judge: a rule-based judge is no model"):
        with_judge(folder, **{**RULES, **wrong})
