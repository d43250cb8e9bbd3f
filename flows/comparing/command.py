"""The verb `longmill compare`: variants of a recipe, one dataset each, one table and one plot."""

from typing import Annotated, Any

import typer

from flows.cli.display import AsJson, console, finish, prefect_at, progress_unless_json, table
from infra.serving.servers import local_folder


def compare(
    recipe: Annotated[str, typer.Argument(help="Recipe file (YAML), or the name of one in the box.", metavar="RECIPE")],
    vary: Annotated[
        list[str] | None,
        typer.Option(help="A recipe key and its values; several make a grid.", metavar="KEY=VALUE,VALUE"),
    ] = None,
    ablate: Annotated[bool, typer.Option("--ablate", help="Also leave out each scorer of the reward in turn.")] = False,
    train: Annotated[bool, typer.Option("--train", help="Train and evaluate on every dataset, too.")] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a recipe key for all: --set questions.limit=50.", metavar="KEY=VALUE"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build a dataset for each value of some recipe keys and compare them; nothing is paid for twice."""
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
