"""`longmill serve`: the servers of a recipe, up for several runs."""

import time
from typing import Annotated

import typer

from flows.cli.display import console, errors, progress_display
from flows.cli.doctor import require_machine
from flows.cli.ending import Interrupted
from flows.recipes import read_recipe
from infra.errors import PrerequisiteError, RecipeError, ServingError
from infra.recipe import Recipe
from infra.serving.records import read_record
from infra.serving.servers import shared_servers, start_servers

_LOOK_S = 1.0  # between two looks at the servers


def serve(
    recipe: Annotated[str, typer.Argument(help="Recipe file (YAML), or the name of one in the box.", metavar="RECIPE")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a recipe key: --set sampling.samples=8.", metavar="KEY=VALUE"),
    ] = None,
) -> None:
    """Start the recipe's servers and keep them up until Ctrl-C; runs of the recipe use them meanwhile."""
    settings = read_recipe(recipe, changes)
    sections = [section for section, model in settings.models().items() if not model.endpoints]
    if not sections:
        raise RecipeError(f"{recipe}: all its models have endpoints, so there is nothing to serve")
    for section in sections:
        running = shared_servers(settings, section)
        if running:
            raise PrerequisiteError(f"the {section} of this recipe and store is served already: {', '.join(running)}")
    with progress_display():
        require_machine(settings)
    try:
        with progress_display(), start_servers(settings, shared=True) as servers:
            urls = _print_endpoints(servers.wait_until_ready(), sections, settings.store)
            while True:
                time.sleep(_LOOK_S)
                _raise_if_given_up(urls)
    except Interrupted:
        errors.print("the servers have ended")


def _print_endpoints(served: Recipe, sections: list[str], store: str) -> list[str]:
    """Say where the servers are and how runs use them; returns their URLs."""
    urls: list[str] = []
    for section in sections:
        endpoints = served.models()[section].endpoints
        urls += endpoints
        console.print(f"{section}: {' '.join(endpoints)}", soft_wrap=True)
    console.print(
        f"Runs of this recipe with the store {store} use these servers until Ctrl-C. Another recipe or store does with "
        f"--set '{sections[0]}.endpoints=[{', '.join(served.models()[sections[0]].endpoints)}]'",
        markup=False,
        soft_wrap=True,
    )
    return urls


def _raise_if_given_up(urls: list[str]) -> None:
    for url in urls:
        record = read_record(url)
        if record is not None and record.state == "failed":
            raise ServingError(record.message)
