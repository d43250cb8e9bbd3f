"""Ask: from a recipe's documents to a published dataset of questions, which other recipes build on.

The work is a build's: plan, shards, publishing. Whatever builds on a recipe with documents asks first
(`with_questions`).
"""

from typing import Any

from prefect import flow

from flows.build import as_recipe, build, build_run_name, recipe_tags
from flows.recipes import read_recipe
from flows.shard import shard_recipe
from infra.recipe import Recipe
from infra.running.run_page import name_run
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
    """Ask questions about the documents of a recipe, and publish them for other recipes: what the deployment runs.

    Args:
        recipe: Recipe: a file on the worker, a URL (s3://bucket/recipe.yaml), or the name of one in the box.
        changes: Changes of recipe keys, one a line: asking.per_document=8, store=s3://bucket/mill.
        retry_drops: Ask again what servers refused, and run shards again that dropped questions for it.
    """
    settings = read_recipe(recipe, changes)
    name_run(f"ask {settings.name}", recipe_tags(settings))
    built: dict[str, Any] = ask(shard_recipe(settings), retry_drops)
    return built


def with_questions(recipe: Recipe, retry_drops: bool = False) -> Recipe:
    """The recipe, over the questions that are asked now where it has documents; else as it is."""
    if recipe.documents is None:
        return recipe
    dataset = ask(recipe, retry_drops)["dataset"]
    return building_half(recipe, dataset["folder"], with_test=bool(dataset["splits"].get("test")))
