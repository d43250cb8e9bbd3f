"""Compare the base model and a trained one on held-out questions, on the same server where that is possible.

A server is needed for answers that are not in the ledger alone: where all are, none is started, and nothing loaded.
An adapter is loaded into the running vLLM. A second server, started as the recipe's `policy.serve` says, serves the
trained model where the whole model was trained, where the server refuses the adapter, and where vLLM would write slowly
with it (hardware.slow_with_adapters): there the adapter is merged into the model.
"""

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from prefect import flow

from flows.cli.views import path_in_store, trained_at
from flows.recipes import read_recipe
from flows.shard import shard_recipe
from flows.task_threads import task_threads
from infra.errors import EvaluationError, ServingError
from infra.ledger import Ledger
from infra.models.client import CallCounts
from infra.models.tokens import resolve_model
from infra.recipe import Model, Recipe, parse_recipe
from infra.running.run_page import announce
from infra.serving import hardware
from infra.serving.adapters import load_adapter
from infra.serving.servers import local_folder, serve, start_servers
from infra.store import open_store
from tasks.evaluation.calls import AFTER, calls_by_section
from tasks.evaluation.contamination import check_overlap
from tasks.evaluation.evaluate import (
    Baseline,
    EvaluationRow,
    SuiteQuestions,
    all_answered,
    baseline_of,
    compare,
    evaluate_model,
)
from tasks.evaluation.suite_questions import is_of_split, read_suite_questions
from tasks.evaluation.suites import parse_suites, with_judges_of_suites
from tasks.evaluation.task_work import WorkInTasks
from tasks.evaluation.trained_rows import overlap_with_training
from tasks.records.example import Context, Example
from tasks.reporting.comparison_tables import evaluation_markdown
from tasks.reporting.evaluated_card import write_evaluation_to_card
from tasks.reporting.evaluation_report import evaluation_command, write_evaluation
from tasks.reporting.report import run_cost
from tasks.resources import RunResources, open_resources
from tasks.training.outputs import merge_adapter


@flow(name="evaluate", flow_run_name="evaluate {recipe[name]}", validate_parameters=False)
def evaluate(
    recipe: dict[str, Any], manifest: str | None, trained: dict[str, Any] | None, command: str | None = None
) -> dict[str, Any]:
    """Evaluate the policy, and `trained` (what the train flow returned) beside it.

    The questions are the recipe's `evaluation.questions`, else the test contexts of the dataset's plan. Returns
    {"before": {metric: {value, low, high, n}}, "after": ..., "difference": ..., "buckets": ..., "calls": ...}.
    """
    outcome = evaluate_models(parse_recipe(recipe), manifest, trained, True, command)
    announce("evaluation", evaluation_markdown(outcome))
    return outcome


def evaluate_models(
    recipe: Recipe,
    manifest: str | None,
    trained: dict[str, Any] | None,
    in_tasks: bool = False,
    command: str | None = None,
) -> dict[str, Any]:
    """What the flow `evaluate` returns; the servers of the recipe run meanwhile.

    `in_tasks`: calls are made by task runs of the flow run that this is in; else in this thread. `command`: the one
    that the report and the card name, where it is not that of the recipe.
    """
    with questions_and_servers(recipe, manifest) as (questions, settings):
        overlap = checked_overlap(settings, questions, manifest, trained) if trained else None
        before, after, calls = evaluation_rows(questions, settings, trained, in_tasks)
    outcome = outcome_of(before, after, calls, settings) | {"overlap": overlap}
    options = [("--model", trained["model"])] if trained else []
    command = command or evaluation_command("evaluate", recipe, manifest, options)
    store = open_store(recipe.store)
    report = write_evaluation(
        store,
        recipe,
        outcome,
        before,
        after,
        examples_of(questions),
        after_name=trained["name"] if trained else None,
        command=command,
    )
    if trained is not None and trained["kind"] != "endpoint":
        write_evaluation_to_card(store, trained["model"], trained["name"], outcome["suites"], command)
    return outcome | {"report": report["report"]}


@contextlib.contextmanager
def questions_and_servers(recipe: Recipe, manifest: str | None) -> Iterator[tuple[SuiteQuestions, Recipe]]:
    """The questions of every suite, and the recipe with endpoints of servers that run until the block ends."""
    if recipe.evaluation is None:
        raise EvaluationError("the recipe has no `evaluation` section; add one, or leave evaluation out")
    with start_servers(with_judges_of_suites(recipe), waiting=True) as servers:
        questions = read_suite_questions(recipe, open_store(recipe.store), manifest)
        yield questions, servers.with_endpoints()


def check_before_training(recipe: Recipe, manifest: str) -> None:
    """Raises what evaluating a model that is trained on `manifest` would: ContaminationError, or EvaluationError where
    there is no question."""
    questions = read_suite_questions(recipe, open_store(recipe.store), manifest)
    checked_overlap(recipe, questions, manifest, None)


def checked_overlap(
    recipe: Recipe, questions: SuiteQuestions, manifest: str | None, trained: dict[str, Any] | None
) -> dict[str, Any] | None:
    """The overlap of the questions with what `trained` has learned from, or would from `manifest` where it is None.

    None where the training data is not in the store. Raises ContaminationError for questions that were trained on,
    unless the recipe allows it.
    """
    pairs: list[tuple[Example, Context]] = []
    of_split: set[str] = set()
    for suite, of_suite in questions:
        pairs += [(question.example, question.context) for question in of_suite]
        if is_of_split(suite, recipe):
            of_split.update(question.example.example_id for question in of_suite)
    overlap = overlap_with_training(open_store(recipe.store), pairs, manifest, trained, of_split)
    if overlap is None:
        return None
    check_overlap(overlap, recipe.evaluation is not None and recipe.evaluation.allow_overlap)
    return overlap.to_json()


def examples_of(questions: SuiteQuestions) -> dict[tuple[str, str], Example]:
    """The questions by suite's label and example id."""
    examples = {}
    for suite, of_suite in questions:
        for question in of_suite:
            examples[suite.label, question.example.example_id] = question.example
    return examples


def outcome_of(
    before: Sequence[EvaluationRow],
    after: Sequence[EvaluationRow] | None,
    calls: dict[str, CallCounts],
    settings: Recipe,
) -> dict[str, Any]:
    """The comparison of two models, with the calls that were made for it and their cost.

    It has the figures of the recipe's first suite, and those of every suite in "suites", by label.
    """
    suites: dict[str, Any] = {}
    for suite in parse_suites(settings):
        of_suite = [row for row in before if row.suite == suite.label]
        other = None if after is None else [row for row in after if row.suite == suite.label]
        suites[suite.label] = compare(of_suite, other, settings)
        summary = suite.suite.summary
        suites[suite.label]["average"] = suite.suite.average
        suites[suite.label]["summary"] = {
            "before": summary(of_suite, None, suite.settings),
            "after": None if other is None else summary(other, of_suite, suite.settings),
        }
    outcome: dict[str, Any] = {**next(iter(suites.values())), "suites": suites}
    outcome["calls"] = {}
    for kind, counts in calls.items():
        outcome["calls"][kind] = asdict(counts)
    outcome["cost"] = run_cost(settings, calls_by_section(outcome["calls"], settings))
    return outcome


def evaluation_rows(
    questions: SuiteQuestions, settings: Recipe, trained: dict[str, Any] | None, in_tasks: bool = False
) -> tuple[list[EvaluationRow], list[EvaluationRow] | None, dict[str, CallCounts]]:
    """The rows of the policy and of `trained` on the same questions, and the calls made."""
    before, calls = policy_rows(questions, settings, None, in_tasks)
    if trained is None:
        return before, None, calls
    after, calls_after = trained_rows(questions, settings, trained, baseline_of(before), in_tasks)
    for kind, counts in calls_after.items():
        calls[f"{kind}{AFTER}"] = counts
    return before, after, calls


def policy_rows(
    questions: SuiteQuestions, settings: Recipe, baseline: Baseline | None, in_tasks: bool
) -> tuple[list[EvaluationRow], dict[str, CallCounts]]:
    """The rows of a recipe's policy, and the calls made."""
    with open_resources(settings) as resources:
        return _rows(questions, resources, baseline, in_tasks), resources.counts()


def trained_rows(
    questions: SuiteQuestions, settings: Recipe, trained: dict[str, Any], baseline: Baseline, in_tasks: bool
) -> tuple[list[EvaluationRow], dict[str, CallCounts]]:
    """The rows of a trained model, and the calls made; it is served where the ledger does not have all its answers."""
    improved = _with_policy(settings, {"name": trained["name"], "revision": trained["revision"]})
    with Ledger(open_store(settings.store)) as ledger:
        answered = all_answered(questions, improved, ledger)
    served = contextlib.nullcontext(improved) if answered else trained_recipe(settings, trained)
    with served as improved:
        return policy_rows(questions, improved, baseline, in_tasks)


def _rows(
    questions: SuiteQuestions, resources: RunResources, baseline: Baseline | None, in_tasks: bool
) -> list[EvaluationRow]:
    """The rows of one model: the policy of `resources`."""
    # Vectors of answers are recorded, since the same answers come again in every run.
    scoring = replace(resources.scoring(), embedder=resources.recorded_embedder)
    if not in_tasks:
        return evaluate_model(questions, scoring, baseline)
    stopped = threading.Event()
    name = f"the evaluation of {resources.recipe.policy.name}"
    with (
        task_threads(resources, name, stopped) as submit_step,
        task_threads(resources, name, stopped) as submit_span,
    ):
        return evaluate_model(questions, scoring, baseline, WorkInTasks(resources, submit_span, submit_step))


@flow(name="evaluate-recipe", flow_run_name="evaluate {recipe}")
def evaluate_recipe(recipe: str, manifest: str = "", model: str = "", changes: tuple[str, ...] = ()) -> dict[str, Any]:
    """Compare the policy of a recipe with a trained model on held-out questions.

    Args:
        recipe: Recipe: a file on the worker, a URL (s3://bucket/recipe.yaml), or the name of one in the box.
        manifest: The manifest.json of the dataset whose test contexts are asked about, or its folder in the store.
        model: Folder of a trained adapter or model in the store; empty for the policy alone.
        changes: Changes of recipe keys, one a line: sampling.samples=8, store=s3://bucket/mill.
    """
    settings = read_recipe(recipe, changes)
    where = path_in_store(settings.store, manifest) if manifest else None
    return evaluate(shard_recipe(settings), where, trained_at(settings.store, model) if model else None)


@contextlib.contextmanager
def trained_recipe(recipe: Recipe, trained: dict[str, Any]) -> Iterator[Recipe]:
    """The recipe with the trained model as its policy, reachable until the block ends."""
    changes: dict[str, Any] = {"name": trained["name"], "revision": trained["revision"]}
    if trained["kind"] == "endpoint":  # it is served elsewhere
        yield _with_policy(recipe, {**changes, "serve": None, "endpoints": (trained["endpoint"],)})
        return
    folder = local_model_folder(recipe, trained["model"])
    if trained["kind"] == "adapter":
        if not _is_slow_with_adapters(recipe) and _load_adapter_everywhere(recipe, trained["name"], folder):
            yield _with_policy(recipe, changes)
            return
        folder = merge_adapter(folder, folder.parent / f"{folder.name}-merged")
    with _second_server(recipe, folder, changes) as improved:
        yield improved


def _is_slow_with_adapters(recipe: Recipe) -> bool:
    serving = recipe.policy.serve
    return serving is not None and hardware.slow_with_adapters(Path(resolve_model(serving.model_path)))


def _load_adapter_everywhere(recipe: Recipe, name: str, folder: Path) -> bool:
    """Load an adapter into every endpoint; False when a server refuses and `policy.serve` says how to start another."""
    try:
        for url in recipe.policy.endpoints:
            load_adapter(url, name, folder, os.environ.get(recipe.policy.api_key_env))
    except ServingError:
        if recipe.policy.serve is None:
            raise
        return False
    return True


@contextlib.contextmanager
def _second_server(recipe: Recipe, folder: Path, changes: dict[str, Any]) -> Iterator[Recipe]:
    if recipe.policy.serve is None:
        raise EvaluationError("a fully trained model needs a server: say in policy.serve how to start one")
    settings = recipe.policy.serve.model_copy(update={"model_path": str(folder), "port": 0, "replicas": 1})
    model: Model = recipe.policy.model_copy(update={**changes, "serve": settings, "endpoints": ()})
    log = local_folder(recipe.store) / "logs" / "vllm-trained.log"
    with serve(model, log=log, execution=recipe.execution, adapters=False) as url:
        yield _with_policy(recipe, {**changes, "serve": settings, "endpoints": (url,)})


def local_model_folder(recipe: Recipe, path: str) -> Path:
    """A trained model's folder on this machine; fetched from a store that is elsewhere."""
    store = open_store(recipe.store)
    if (folder := store.local_path(path)) is not None:
        return folder
    folder = local_folder(recipe.store) / "work" / path
    store.download_folder(path, folder)
    return folder


def _with_policy(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    return recipe.model_copy(update={"policy": recipe.policy.model_copy(update=changes)})
