"""`longmill status`: the plans of a store, or one plan, once or again and again."""

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from flows.cli.display import AsJson, StoreUrl, console, finish, table
from flows.cli.ending import Interrupted
from flows.cli.inspecting import plain
from infra.errors import UsageError

_DRAW_S = 5.0  # between two looks of --watch on a terminal
_LINE_S = 30.0  # between two lines elsewhere
_NEWEST = 20  # plans, without --all
_ID_LENGTH = 8  # of an id in the list: its beginning names the plan


def status(
    plan_id: Annotated[
        str,
        typer.Argument(help="Plan (the beginning of its id is enough); without it, the newest ones.", metavar="PLAN"),
    ] = "",
    store: StoreUrl = "",
    watch: Annotated[bool, typer.Option("--watch", help="Look again every few seconds, until Ctrl-C.")] = False,
    all_plans: Annotated[bool, typer.Option("--all", help="All plans of the store, not the newest 20 alone.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how far plans are: shards by state, who builds, calls, cost, rate, time left, and the last errors."""
    if watch and as_json:
        raise UsageError("status: say either --watch or --json")
    from tasks.records.hint import default_store

    url = store or default_store()
    newest = None if all_plans else _NEWEST
    if watch:
        _watch(url, plan_id, newest)
        return
    from flows.cli.plan_state import plan_status

    plans = plan_status(url, plan_id, newest)
    if not as_json:
        for part in _page(plans):
            console.print(part, soft_wrap=isinstance(part, Text))  # a command must stay one line
    finish(as_json, plans, [])


def _watch(url: str, plan_id: str, newest: int | None) -> None:
    """Show the plans again and again until a signal comes, which is this command's normal end."""
    from flows.cli.plan_state import plan_status
    from tasks.reporting.status_tables import progress_line

    try:
        if console.is_terminal:
            with Live(Group(*_page(plan_status(url, plan_id, newest))), console=console, auto_refresh=False) as live:
                while True:
                    time.sleep(_DRAW_S)
                    live.update(Group(*_page(plan_status(url, plan_id, newest))), refresh=True)
        while True:
            for state in plan_status(url, plan_id, newest):
                console.print(plain(progress_line(state)), soft_wrap=True)
            time.sleep(_LINE_S)
    except Interrupted:
        return


def _page(plans: list[dict[str, Any]]) -> list[RenderableType]:
    """What `status` prints: a table of several plans, or all of one."""
    from tasks.reporting.status_tables import plans_rows

    parts: list[RenderableType] = []
    if len(plans) > 1:
        columns, rows = plans_rows(plans)
        by_beginning = [[plan_id[:_ID_LENGTH], *row] for plan_id, *row in rows]
        parts.append(table("plans, the newest first", columns, by_beginning))
        for plan_state in plans:
            if plan_state["rerun"]:
                parts.append(Text(f"{plan_state['states']['failed']['shards']} failed: {plan_state['rerun']}"))
    else:
        parts.extend(_plan_page(plans[0]))
    for batch in plans[0].get("batches", ()):  # of the store: a batch may hold calls of several plans
        done = f"{batch['done']:,} of {batch['total']:,} done"
        parts.append(plain(f"waiting for batch {batch['batch'] or '(about to be made)'}, {done}: {batch['status']}"))
    return parts


def _plan_page(state: dict[str, Any]) -> Iterator[RenderableType]:
    """The state of a plan, part by part."""
    from flows.cli.plan_state import failed_shards
    from tasks.reporting.status_tables import build_lines, model_rows, plan_title, state_rows, step_rows

    yield Text(plan_title(state), "bold")
    yield table("", *state_rows(state))
    for what, words in build_lines(state):
        yield Text.assemble((f"{what}: ", "bold"), plain(words))
    for rows in (step_rows(state), model_rows(state)):
        if rows[1]:
            yield Text()
            yield table("", *rows)
    failed = state["states"]["failed"]["shards"]
    errors = failed_shards(state)
    if errors:
        first = "" if failed == len(errors) else f", the first {len(errors)} of {failed:,}"
        yield Text(f"\nfailed shards{first}", "bold")
    for shard in errors:
        yield plain(f"  {shard['shard']}: {shard['error']}")
    if state["rerun"]:
        yield Text.assemble(("\nrun them again with: ", "bold"), state["rerun"])
