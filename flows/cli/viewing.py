"""`longmill view`: a local web page over stores and datasets. It calls no model."""

from typing import Annotated

import typer


def view(
    places: Annotated[
        list[str] | None,
        typer.Argument(help="Stores or datasets, folders or URLs; else LONGMILL_STORE, else mill.", metavar="PLACE"),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page, where this machine has a screen.")] = True,
) -> None:
    """Show datasets and runs in a browser: pairs, their facts and passages, drops, two datasets side by side."""
    from flows.view.server import serve_pages
    from tasks.records.hint import default_store
    from tasks.viewing.library import Library

    serve_pages(Library(places or [default_store()]), port, browser)
