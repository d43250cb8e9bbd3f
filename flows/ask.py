"""Ask: from a recipe's documents to a published dataset of questions, which other recipes build on.

The work is a build's: plan, shards, publishing. Whatever builds on a recipe with documents asks first
(`with_questions`).
"""

from typing import Any

from prefect import flow

from flows.build import as_recipe, build, build_run_name
from flows.recipes import read_recipe
from flows.shard import shard_recipe
from infra.recipe import Recipe
from tasks.asking.recipes import asking_half, building_half


@flow(name="ask", flow_run_name=build_run_name, validate_parameters=False)
def ask(recipe: dict[str, Any] | Recipe, retry_drops: bool = False) -> dict[str, Any]:
    """Publish the questions of the recipe's documents; returns what `build` returns.

    Raises RecipeError for a recipe without documents.
    """
    built: dict[str, Any] = build(asking_half(as_recipe(recipe)), retry_drops=retry_drops)
    return built


@flow(name="ask-recipe", flow_run_name="ask {recipe}")
def ask_recipe(recipe: str, changes: tuple[str, ...] = (), retry_drops: bool = False) -> dict[str, Any]:
    """Ask from a recipe file: what the deployment runs."""
    built: dict[str, Any] = ask(shard_recipe(read_recipe(recipe, changes)), retry_drops)
    return built


def with_questions(recipe: Recipe, retry_drops: bool = False) -> Recipe:
    """The recipe, over the questions that are asked now where it has documents; else as it is."""
    if recipe.documents is None:
        return recipe
    dataset = ask(recipe, retry_drops)["dataset"]
    return building_half(recipe, dataset["folder"], with_test=bool(dataset["splits"].get("test")))
