"""The checks before a run, for every model that a recipe asks, and whose keys they name."""

from pathlib import Path
from typing import Any

import pytest

from flows.cli.doctor import checks, require_machine
from infra.errors import PrerequisiteError
from infra.recipe import Recipe, parse_recipe
from tests.support.planning import small_recipe

JUDGE = {"name": "critic", "tokenizer": "microworld"}


def lacks(recipe: Recipe) -> dict[str, str]:
    return {name: lack for name, lack in checks(recipe) if lack}


def recipe_for(folder: Path, **judge: Any) -> Recipe:
    return small_recipe(folder, judge={**JUDGE, **judge})


def test_each_endpoint_is_asked_and_named_by_its_section(folder: Path) -> None:
    found = lacks(recipe_for(folder, endpoints=["http://127.0.0.1:9/v2"]))
    assert "mend policy.endpoints" in found["policy's endpoint http://127.0.0.1:9/v1"]
    assert "mend judge.endpoints" in found["judge's endpoint http://127.0.0.1:9/v2"]


def test_a_judge_that_is_served_here_needs_python_model_and_port(folder: Path) -> None:
    serve = {"model_path": "/nowhere/model", "python": "nowhere/bin/python"}
    found = lacks(recipe_for(folder, serve=serve))
    assert "judge.serve.python" in found["environment for vLLM of the judge"]
    assert "judge.serve.model_path" in found["model /nowhere/model of the judge"]
    with pytest.raises(PrerequisiteError, match=r"judge\.serve\.python.*judge\.serve\.model_path"):
        require_machine(recipe_for(folder, serve=serve))


def test_a_tokenizer_that_cannot_be_loaded_is_named(folder: Path) -> None:
    found = lacks(recipe_for(folder, tokenizer=str(folder / "none"), endpoints=["http://127.0.0.1:9/v2"]))
    assert f"judge's tokenizer {folder / 'none'}" in found


def test_a_rule_based_judge_needs_nothing(folder: Path) -> None:
    recipe = recipe_for(folder, name="rule-based", rule_based=True, prompts="terse")
    assert not [name for name in lacks(recipe) if "judge" in name]
    require_machine(recipe)


def test_scorers_without_the_judge_that_they_ask_are_found(folder: Path) -> None:
    settings = small_recipe(folder).model_dump(mode="json")
    recipe = parse_recipe({**settings, "scoring": {"scorers": [{"scorer": "helpfulness"}]}})
    assert "helpfulness asks a judge" in lacks(recipe)["scorers"]


def test_a_scorers_own_model_that_is_not_there_is_found(folder: Path) -> None:
    settings = small_recipe(folder).model_dump(mode="json")
    scorers = [{"scorer": "consensus", "similarity": "rouge_l"}, {"scorer": "reward_model", "model": "./no-model"}]
    recipe = parse_recipe({**settings, "scoring": {"scorers": scorers}})
    assert "reward_model.model: cannot load './no-model'" in lacks(recipe)["scorers"]
