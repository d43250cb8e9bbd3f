"""The verb `longmill compare`: variants of a recipe, one dataset each; or several models on the same questions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from flows.cli.display import (
    AsJson,
    RecipeOrModels,
    ServedTokenizer,
    ServedWindow,
    StoreWithoutRecipe,
    console,
    finish,
    prefect_at,
    progress_unless_json,
    table,
)
from infra.errors import RecipeError, UsageError
from infra.serving.servers import local_folder


def compare(
    recipe: RecipeOrModels = "",
    vary: Annotated[
        list[str] | None,
        typer.Option(help="A recipe key and its values; several make a grid.", metavar="KEY=VALUE,VALUE"),
    ] = None,
    ablate: Annotated[bool, typer.Option("--ablate", help="Also leave out each scorer of the reward in turn.")] = False,
    train: Annotated[bool, typer.Option("--train", help="Train and evaluate on every dataset, too.")] = False,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="Model to compare with the policy: its folder in the store, seeds of one as NAME=F,F,F, or NAME=URL, "
            "NAME@REVISION=URL, of a served one. Without a recipe, the first is what the others are compared with.",
            metavar="MODEL",
        ),
    ] = None,
    checkpoints: Annotated[
        str,
        typer.Option(help="Model whose checkpoints are compared; the best is chosen on a part of the questions."),
    ] = "",
    recipes: Annotated[
        list[str] | None,
        typer.Option("--with", help="Recipe whose policy answers the same questions.", metavar="RECIPE"),
    ] = None,
    manifest: Annotated[str, typer.Option(help="With models: dataset whose test contexts are asked about.")] = "",
    metric: Annotated[str, typer.Option(help="With --checkpoints: the metric to choose by; else the first.")] = "",
    development: Annotated[
        float, typer.Option(min=0.05, max=0.95, help="With --checkpoints: share of the contexts to choose on.")
    ] = 0.5,
    suite: Annotated[
        list[str] | None,
        typer.Option(help="With models: suite in place of the recipe's, as `longmill evaluate` takes it."),
    ] = None,
    judge: Annotated[str, typer.Option(help="With models: judge of the suites that ask one: NAME=URL.")] = "",
    tokenizer: ServedTokenizer = "",
    window: ServedWindow = 0,
    store: StoreWithoutRecipe = "",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a recipe key for all: --set questions.limit=50.", metavar="KEY=VALUE"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a dataset for each value of some recipe keys, or several models; nothing is paid for twice."""
    if not recipe:
        if vary or ablate or train or checkpoints or recipes or manifest:
            raise UsageError("compare: without a recipe only served models are compared: --model NAME=URL --suite NAME")
        if len(models or ()) < 2:
            raise UsageError("compare: give a recipe, or two served models: --model NAME=URL --model NAME=URL")
        from flows.cli.evaluating import evaluate

        evaluate("", "", models, suite, judge, tokenizer, window, store, changes=changes, as_json=as_json)
        return
    if models or checkpoints or recipes:
        if vary or ablate or train:
            raise UsageError("compare: --vary, --ablate and --train are about datasets; leave them out with models")
        chosen = ModelChoice(tuple(models or ()), checkpoints, tuple(recipes or ()), metric, development)
        compare_on_questions(recipe, manifest, chosen, changes, as_json, suite or (), judge)
        return
    if suite or judge:
        raise UsageError("compare: --suite and --judge are about models; give --model, --checkpoints or --with too")
    from flows.cli.doctor import require_machine
    from flows.comparing.variants import ablation, make_variants, parse_variation
    from flows.recipes import read_recipe

    variations = [parse_variation(text) for text in vary or ()]
    if ablate:
        variations.append(ablation(read_recipe(recipe, changes)))
    variants = make_variants(recipe, changes or (), variations, train)
    with progress_unless_json(as_json):
        for variant in variants:
            require_machine(variant.recipe)
    with prefect_at(local_folder(variants[0].recipe.store)), progress_unless_json(as_json):
        from flows.comparing.building import compare_variants

        comparison = compare_variants(variants, variations, train)
    _show(comparison, as_json)


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The models that a person names: folders, the model with checkpoints, recipes; and how to choose a checkpoint."""

    models: tuple[str, ...] = ()
    checkpoints: str = ""
    recipes: tuple[str, ...] = ()
    metric: str = ""
    development: float = 0.5


def compare_on_questions(
    recipe: str,
    manifest: str,
    chosen: ModelChoice,
    changes: list[str] | None,
    as_json: bool,
    suites: Sequence[str] = (),
    judge: str = "",
) -> None:
    """Several models on the same questions, as a table; raises RecipeError for models that are not there."""
    from flows.cli.contenders import checkpoints_of, contenders_of
    from flows.cli.doctor import require_machine
    from flows.cli.models_at import with_judge, with_suites
    from flows.cli.views import path_in_store
    from flows.recipes import read_recipe
    from tasks.evaluation.suites import with_judges_of_suites

    settings = read_recipe(recipe, changes)
    if settings.evaluation is None:
        raise RecipeError(f"{recipe}: the recipe has no `evaluation` section; add one")
    settings = with_suites(with_judge(settings, judge) if judge else settings, suites)
    path = path_in_store(settings.store, manifest) if manifest else None
    contenders = contenders_of(settings.store, chosen.models, chosen.recipes)
    steps = checkpoints_of(settings.store, chosen.checkpoints) if chosen.checkpoints else []
    with progress_unless_json(as_json):
        require_machine(with_judges_of_suites(settings))
    with prefect_at(local_folder(settings.store)), progress_unless_json(as_json):
        from flows.comparing.models import compare_models
        from flows.shard import shard_recipe

        outcome = compare_models(
            shard_recipe(settings), path, contenders, steps, chosen.metric or None, chosen.development
        )
    from tasks.reporting.comparison_tables import choice_words, several_rows, several_words

    if not as_json:
        console.print(table(settings.name, *several_rows(outcome["models"])))
        words = [choice_words(outcome["choice"])] if outcome["choice"] else []
        for line in [*words, *several_words(outcome["models"])]:
            console.print(line, soft_wrap=True, markup=False)
    finish(as_json, outcome, [("report", f"{outcome['report']}/report.html")])


def _show(comparison: dict[str, Any], as_json: bool) -> None:
    from tasks.reporting.variants import brief_tables, shared_figures

    if not as_json:
        title = f"{comparison['recipe']}, SubEM in %"
        for rows in brief_tables(comparison, console.width):
            console.print(table(title, *rows))
            title = " "
        notes = []
        for name, figure in shared_figures(comparison).items():
            notes.append(f"{name} {figure}")
        run = comparison["run"]
        notes.append(f"this run made {run['made']:,} calls and reused {run['reused']:,}")
        console.print(" · ".join(notes), soft_wrap=True)
    paths = [("table", f"{comparison['folder']}/table.md")]
    if comparison["plot"] is not None:
        paths.append(("plot", comparison["plot"]))
    elif not as_json:
        console.print("no plot: no question has a reference to measure quality by")
    finish(as_json, comparison, paths)
