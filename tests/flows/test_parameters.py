"""The forms of the Prefect UI: every parameter of a deployed flow says what it is, and has a default where it can."""

from pathlib import Path
from typing import Any

import pytest

from flows.cli.app import app

REQUIRED = {  # what nobody could guess
    "rerun": {"plan_id"},
    "shard": {"recipe", "plan_id", "indices"},  # a build starts it
    "plan-ranges": {"recipe", "questions", "folder", "ranges", "sizes"},  # and this
}


def deployed_flows() -> dict[str, Any]:
    """The flows that prefect.yaml deploys, by name."""
    from flows.deployments import deployments

    return {deployment.flow.name: deployment.flow for deployment in deployments()}


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    from prefect.utilities.callables import parameter_schema

    return {name: parameter_schema(flow).model_dump() for name, flow in deployed_flows().items()}


def test_every_parameter_is_described(schemas: dict[str, Any]) -> None:
    assert set(schemas) >= {
        "nightly",
        "plan-ranges",
        "shard",
        "rerun",
        "train",
        "evaluate-recipe",
        "improve-recipe",
        "maintain",
    }
    for name, schema in schemas.items():
        for parameter, values in schema["properties"].items():
            description = values.get("description", "")
            assert description.endswith("."), f"{name}: {parameter} has no description"
            assert len(description) < 200, f"{name}: {parameter}: too long for a form"


def test_every_parameter_has_a_default_but_those_that_nobody_could_guess(schemas: dict[str, Any]) -> None:
    for name, schema in schemas.items():
        required = set(schema.get("required") or ())
        assert required - {"recipe"} == REQUIRED.get(name, set()) - {"recipe"}, name


def test_choices_are_lists_in_the_form(schemas: dict[str, Any]) -> None:
    assert schemas["rerun"]["properties"]["from_step"]["enum"] == ["sample", "score", "pair"]
    assert schemas["improve-recipe"]["properties"]["rounds"]["minimum"] == 1


def test_the_form_of_rerun_does_all_that_the_command_does(schemas: dict[str, Any]) -> None:
    import typer

    command: Any = typer.main.get_command(app).commands["rerun"]  # type: ignore[attr-defined]
    options = {parameter.name for parameter in command.params} - {"as_json"}
    assert options <= set(schemas["rerun"]["properties"])


def test_a_training_takes_the_name_of_a_recipe_and_finds_the_latest_dataset(folder: Path) -> None:
    from flows.recipes import read_recipe
    from flows.train import latest_manifest
    from infra.errors import InputError
    from infra.store import open_store

    recipe = read_recipe("demo-sealong", ["store=mill"])
    with pytest.raises(InputError, match=r"latest\.json: nothing is published under this name"):
        latest_manifest(recipe)
    path = f"datasets/{recipe.dataset.name}/latest.json"
    open_store("mill").write(path, b'{"manifest": "datasets/x/1/manifest.json"}')
    assert latest_manifest(recipe) == "datasets/x/1/manifest.json"
