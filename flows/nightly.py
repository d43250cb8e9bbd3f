"""A night: ask about the documents of a recipe, build its dataset, publish it, and request its training."""

from typing import Any

from prefect import flow
from prefect.runtime import deployment

from flows.ask import with_questions
from flows.build import build, plan_tags, recipe_tags
from flows.early import say_early
from flows.recipes import read_recipe
from infra.running.run_page import name_run
from infra.running.server_away import run_when_server_answers
from infra.store import open_store
from tasks.records.plan import load_plan


@flow(name="nightly", flow_run_name="nightly {recipe}")
def nightly(recipe: str, changes: tuple[str, ...] = (), retry_drops: bool = False) -> dict[str, Any]:
    """Build the dataset of a recipe, publish it, and request its training: what the schedule runs.

    Args:
        recipe: Recipe: a file on the worker, a URL (s3://bucket/recipe.yaml), or the name of one in the box.
        changes: Changes of recipe keys, one a line: sampling.samples=8, store=s3://bucket/mill.
        retry_drops: Ask again what servers refused, and run shards again that dropped questions for it.
    """
    if deployment.id:  # a night whose process is killed must not keep the next one from starting
        from infra.running.remote_runs import watch_for_lost_runs

        watch_for_lost_runs()
    settings = read_recipe(recipe, changes)
    name_run(f"nightly {settings.name}", recipe_tags(settings))
    say_early(settings)
    recipe_of_pairs = with_questions(settings, retry_drops)
    built = run_when_server_answers(build, recipe_of_pairs, train=True, retry_drops=retry_drops)
    plan = load_plan(open_store(settings.store), built["plan_id"])
    name_run(f"nightly {settings.name} · {plan.planned_questions:,} questions", plan_tags(settings, plan))
    return built
