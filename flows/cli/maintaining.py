"""`longmill maintain`: tidy a store by hand; the deployment `longmill-maintain` does it on a schedule."""

from typing import Annotated

import typer

from flows.cli.display import AsJson, console, finish, progress_unless_json, table


def maintain(
    store: Annotated[str, typer.Option(help="Folder or URL of the store.")] = "mill",
    remove: Annotated[bool, typer.Option("--remove", help="Remove the files that are listed without it.")] = False,
    grace_days: Annotated[float, typer.Option(min=0.0, help="Days that a file must be old.")] = 7.0,
    as_json: AsJson = False,
) -> None:
    """Merge the ledger's small segments, and list the files that nothing in the store names any more."""
    with progress_unless_json(as_json):
        from flows.maintain import tidy
        from infra.store import open_store
        from tasks.maintenance import unnamed_rows

        unnamed = tidy(open_store(store), remove=remove, grace_days=grace_days)
    if not as_json:
        console.print(table(store, *unnamed_rows(unnamed)))
        for path in unnamed["paths"]:
            console.print(path, markup=False, soft_wrap=True)
    finish(as_json, unnamed, [])
