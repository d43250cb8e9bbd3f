"""`longmill evaluate`: a recipe's models, or any served ones, on the suites of a recipe, or on any."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.display import (
    AsJson,
    RecipeOrModels,
    ServedTokenizer,
    ServedWindow,
    StoreWithoutRecipe,
    console,
    evaluation_pages,
    finish,
    prefect_at,
    progress_unless_json,
    table,
)
from flows.cli.doctor import require_machine
from flows.cli.models_at import (
    check_names,
    check_second_model,
    evaluation_recipe,
    served_model,
    with_judge,
    with_suites,
)
from flows.recipes import read_recipe
from infra.errors import RecipeError
from infra.recipe import Recipe
from infra.recipe.public import public_text
from infra.serving.servers import local_folder


def evaluate(
    recipe: RecipeOrModels = "",
    manifest: Annotated[str, typer.Option(help="Dataset whose test contexts are asked about.")] = "",
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Model to evaluate: its folder in the store, or NAME=URL, NAME@REVISION=URL, of one that is served; "
            "several are compared with one another. Without a recipe, the first is what the others are compared with."
        ),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            help="Suite in place of the recipe's: NAME, NAME=FILE with its questions, or {name: NAME, ...settings}; "
            "several are evaluated together."
        ),
    ] = None,
    judge: Annotated[str, typer.Option(help="Judge of the suites that ask one: NAME=URL.")] = "",
    tokenizer: ServedTokenizer = "",
    window: ServedWindow = 0,
    store: StoreWithoutRecipe = "",
    lm_eval: Annotated[
        str, typer.Option(help="Tasks of lm-eval to run at the same endpoint: gsm8k,arc_challenge.", metavar="TASKS")
    ] = "",
    lm_eval_args: Annotated[
        str, typer.Option(help="Further arguments of lm-eval: '--num_fewshot 5 --limit 100'.", metavar="ARGUMENTS")
    ] = "",
    lm_eval_chat: Annotated[
        bool, typer.Option("--lm-eval-chat", help="Let lm-eval send chat messages; for tasks that generate text.")
    ] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a recipe key: --set sampling.samples=8.", metavar="KEY=VALUE"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare models on suites: the policy of a recipe and trained ones, or any that are served."""
    if lm_eval:
        from tasks.evaluation.lm_eval import find_lm_eval

        find_lm_eval()
    names = model or []
    if recipe:
        settings = read_recipe(recipe, changes)
    else:
        served = [served_model(name) for name in names]
        settings = evaluation_recipe(served, judge, tokenizer, window, store, changes or ())
        names = names[1:]
    if settings.evaluation is None:
        raise RecipeError(f"{recipe}: the recipe has no `evaluation` section; add one")
    if recipe and judge:
        settings = with_judge(settings, judge)
    settings = with_suites(settings, suite or [])
    trained = [_trained(name, settings) for name in names]
    check_names(trained, settings)
    outcome: dict[str, Any] = {}
    if recipe or suite or not lm_eval:
        check_second_model(settings, trained)
        command = None if recipe else _command(model, suite, judge, tokenizer, window, changes)
        outcome = _evaluated(settings, manifest, trained, command, as_json)
    if lm_eval:
        outcome["lm_eval"] = _lm_eval_results(settings, trained, lm_eval, lm_eval_chat, lm_eval_args.split())
        if not as_json:
            console.print(table("lm-eval", *_lm_eval_rows(outcome["lm_eval"])))
    report = outcome.get("report")
    finish(as_json, outcome, [("report", f"{report}/report.html")] if report else [])


def _command(
    models: list[str] | None,
    suites: list[str] | None,
    judge: str,
    tokenizer: str,
    window: int,
    changes: list[str] | None,
) -> str:
    """The command of an evaluation without a recipe, but for the store, which may be a folder of this machine."""
    options = [("--model", models), ("--suite", suites), ("--judge", [judge] if judge else [])]
    options += [("--tokenizer", [public_text(tokenizer)] if tokenizer else [])]
    options += [("--window", [str(window)] if window else []), ("--set", changes)]
    words = ["longmill", "evaluate"]
    for option, values in options:
        for value in values or ():
            words += [option, value]
    return shlex.join(words)


def _trained(name: str, settings: Recipe) -> dict[str, Any]:
    """What the train flow returned for a folder, or the same of a model that is served elsewhere."""
    from flows.cli.views import trained_at

    if "://" in name and "=" in name:
        return served_model(name).as_trained()
    return trained_at(settings.store, name)


def _evaluated(
    settings: Recipe, manifest: str, trained: list[dict[str, Any]], command: str | None, as_json: bool
) -> dict[str, Any]:
    from flows.cli.views import path_in_store
    from tasks.evaluation.suites import with_judges_of_suites

    path = path_in_store(settings.store, manifest) if manifest else None
    with progress_unless_json(as_json):
        require_machine(with_judges_of_suites(settings))
    with prefect_at(local_folder(settings.store)), progress_unless_json(as_json):
        from flows.shard import shard_recipe

        parameters = shard_recipe(settings)
        outcome: dict[str, Any]
        if len(trained) > 1:
            from flows.comparing.models import compare_models

            contenders = [{"name": one["name"], "seeds": [one], "recipe": None, "step": None} for one in trained]
            outcome = compare_models(parameters, path, contenders, command=command)
        else:
            from flows.evaluate import evaluate as evaluate_flow

            outcome = evaluate_flow(parameters, path, trained[0] if trained else None, command)
    if not as_json:
        if len(trained) == 1:
            console.print(f"before: {settings.policy.name}, after: {trained[0]['name']}", soft_wrap=True, markup=False)
        _show(settings.name, outcome, several=len(trained) > 1)
    return outcome


def _show(name: str, outcome: dict[str, Any], several: bool) -> None:
    from tasks.reporting.comparison_tables import several_rows, several_words

    if not several:
        for part in evaluation_pages(name, outcome):
            console.print(part, soft_wrap=isinstance(part, str), markup=False)
        return
    console.print(table(name, *several_rows(outcome["models"])))
    for line in several_words(outcome["models"]):
        console.print(line, soft_wrap=True, markup=False)


def _lm_eval_results(
    settings: Recipe, trained: list[dict[str, Any]], tasks: str, chat: bool, further: list[str]
) -> dict[str, Any]:
    """{model: {task: {metric: value}}}; a copy lies in the store, under evaluations/lm-eval."""
    from flows.evaluate import trained_recipe
    from infra.canonical import canonical_json
    from infra.serving.servers import serve_recipe
    from infra.store import open_store
    from tasks.evaluation.lm_eval import run_lm_eval

    results: dict[str, Any] = {}
    folder = local_folder(settings.store) / "work" / "lm-eval"
    with serve_recipe(settings.model_copy(update={"judge": None, "strong": None})) as served:
        results[served.policy.name] = run_lm_eval(served.policy, tasks, chat, folder / served.policy.name, further)
        for model in trained:
            with trained_recipe(served, model) as improved:
                name = improved.policy.name
                results[name] = run_lm_eval(improved.policy, tasks, chat, folder / name, further)
    store = open_store(settings.store)
    for name, of_model in results.items():
        store.write(f"evaluations/lm-eval/{Path(name).name}.json", canonical_json({"model": name, "results": of_model}))
    return results


def _lm_eval_rows(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    names = list(results)
    rows: dict[tuple[str, str], list[str]] = {}
    for place, of_model in enumerate(results.values()):
        for task, figures in of_model.items():
            for metric, value in figures.items():
                cells = rows.setdefault((task, metric), ["—"] * len(names))
                cells[place] = f"{value:.4f}" if isinstance(value, float) else str(value)
    return ["task", "metric", *names], [[task, metric, *cells] for (task, metric), cells in rows.items()]
