"""Rounds of build, train and evaluate: the whole factory in one flow; one round is `longmill run`.

The server of the policy runs during the whole round, and before it where the round's questions are asked first. Before
the next round the trained adapter is merged into the model, and the merged model is the next round's policy.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import Annotated, Any

from prefect import flow, tags
from pydantic import Field

from flows.ask import with_questions
from flows.build import build, planned, recipe_tags
from flows.early import say_early
from flows.evaluate import check_before_training, evaluate, local_model_folder
from flows.recipes import read_recipe
from flows.shard import shard_recipe
from flows.train import train
from infra.errors import RecipeError
from infra.recipe import Recipe, parse_recipe
from infra.running.run_page import announce, run_log
from infra.running.server_away import run_when_server_answers
from infra.serving.servers import restart_counts, restarts_since, start_servers
from infra.store import open_store
from tasks.asking.recipes import asking_half
from tasks.finished_run import finished_run, record_run, run_inputs
from tasks.late_servers import servers_may_wait
from tasks.reporting.report import write_report
from tasks.reporting.run_summary import report_summary
from tasks.training.outputs import merge_adapter


@flow(name="improve", flow_run_name="improve {recipe[name]}", validate_parameters=False)
def improve(recipe: dict[str, Any], rounds: int = 1) -> list[dict[str, Any]]:
    """Run `rounds` rounds; returns the content of report.json of each round.

    Where the same run has ended before, and all that it made is there, these are its reports.
    """
    settings = parse_recipe(recipe)
    store, inputs = open_store(settings.store), run_inputs(settings, rounds)
    finished = finished_run(store, settings, inputs)
    if finished is not None:
        run_log().info(f"nothing to do: this run ended at {finished.ended}, and all that it made is there")
        for report in finished.reports:
            announce(f"report-{report['plan_id']}", report_summary(report, settings.name))
        return finished.reports
    reports = run_rounds(settings, rounds)
    record_run(store, settings, inputs, reports)
    return reports


def run_rounds(recipe: Recipe, rounds: int) -> list[dict[str, Any]]:
    """The reports of the rounds. Raises RecipeError when the recipe cannot serve or train a second round's model."""
    if rounds > 1 and (recipe.policy.serve is None or recipe.training is None):
        raise RecipeError("rounds need policy.serve and training: each round starts a server for the model before it")
    with _servers_of_both(recipe) as served:
        served = with_questions(served)
        recipe = served.model_copy(update=recipe.models())
        reports = [run_round(recipe, 1, served)]
    for number in range(2, rounds + 1):
        recipe = next_policy(recipe, reports[-1]["trained"])
        reports.append(run_round(recipe, number, recipe))
    return reports


@contextlib.contextmanager
def _servers_of_both(recipe: Recipe) -> Iterator[Recipe]:
    """The recipe with endpoints, where it asks questions before its first round: of servers that run during both.

    Shards that run elsewhere have servers of their own.
    """
    if recipe.documents is None or recipe.execution.shard_deployment is not None:
        yield recipe
        return
    waiting = servers_may_wait(open_store(recipe.store), asking_half(recipe))
    with start_servers(recipe, waiting=waiting) as servers:
        yield servers.with_endpoints()


def run_round(recipe: Recipe, number: int, served: Recipe) -> dict[str, Any]:
    """One round: build, train, evaluate, report. `served`: the recipe with endpoints of servers that run already."""
    with tags(*recipe_tags(recipe)), planned(served) as (settings, plan_id, seconds, _lease):
        parameters = shard_recipe(settings)
        restarts = restart_counts(settings)
        built = run_when_server_answers(build, parameters, plan_id)
        for stage, stage_seconds in built["seconds"].items():
            seconds.setdefault(stage, stage_seconds)
        manifest = built["dataset"]["manifest"]
        trained = comparison = None
        if settings.training is not None and settings.evaluation is not None:
            check_before_training(settings, manifest)
        if settings.training is not None:
            start = time.monotonic()
            trained = run_when_server_answers(train, parameters, manifest)
            seconds["train"] = time.monotonic() - start
        if settings.evaluation is not None:
            start = time.monotonic()
            comparison = run_when_server_answers(evaluate, parameters, manifest, trained)
            seconds["evaluate"] = time.monotonic() - start
        built["restarts"] = restarts_since(restarts, settings)  # of the whole round
    store = open_store(recipe.store)
    name = recipe.name if number == 1 else f"{recipe.name}-round-{number}"
    report: dict[str, Any] = write_report(store, name, recipe, built, trained, comparison, seconds)
    announce(f"report-{built['plan_id']}", report_summary(report, name))
    return report


def next_policy(recipe: Recipe, trained: dict[str, Any]) -> Recipe:
    """The recipe whose policy is the model that a round trained.

    The seed stays, so the contexts and their split stay too: no round is tested on contexts that an earlier one was
    trained on, and a round's figures of its policy can be compared with the last round's of its trained model.
    """
    assert recipe.policy.serve is not None
    folder = local_model_folder(recipe, trained["model"])
    if trained["kind"] == "adapter":
        folder = merge_adapter(folder, folder.parent / f"{folder.name}-merged")
    serve = recipe.policy.serve.model_copy(update={"model_path": str(folder)})
    policy = recipe.policy.model_copy(update={"serve": serve, "revision": trained["revision"], "endpoints": ()})
    training = recipe.training and recipe.training.model_copy(update={"base": None})
    return recipe.model_copy(update={"policy": policy, "training": training})


@flow(name="improve-recipe", flow_run_name="improve {recipe}")
def improve_recipe(
    recipe: str, rounds: Annotated[int, Field(ge=1)] = 1, changes: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Rounds of build, train and evaluate.

    Args:
        recipe: Recipe: a file on the worker, a URL (s3://bucket/recipe.yaml), or the name of one in the box.
        rounds: How many; each starts from the model that the one before trained.
        changes: Changes of recipe keys, one a line: sampling.samples=8, store=s3://bucket/mill.
    """
    settings = read_recipe(recipe, changes)
    say_early(settings, trains=True)
    return improve(shard_recipe(settings), rounds)
