"""The verb `longmill evidence`: measure the effect of the methods, or show the table that is shipped."""

from typing import Annotated, Any

import typer

from flows.cli.display import AsJson, console, finish, prefect_at, progress_unless_json, table
from infra.serving.servers import local_folder


def evidence(
    count: Annotated[int, typer.Option(min=8, help="Questions to train on, and to measure on, of each seed.")] = 256,
    questions: Annotated[
        str, typer.Option(help="Questions about real text, in place of the generated worlds.", metavar="FILE")
    ] = "",
    question_format: Annotated[
        str, typer.Option("--format", help="Format of --questions, as questions.format of a recipe.")
    ] = "native",
    model: Annotated[str, typer.Option(help="Policy: a model in the box, a folder or a hub name.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds: worlds, samples and trainings of their own.")] = 3,
    only: Annotated[
        list[str] | None, typer.Option(help="Measure this row alone; may be repeated.", metavar="ROW")
    ] = None,
    out: Annotated[str, typer.Option(help="Store that keeps everything; the same again goes on.")] = "mill-evidence",
    show: Annotated[bool, typer.Option("--show", help="Show the table that was measured last and is shipped.")] = False,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key of the demo's recipes.", metavar="KEY=VALUE")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure what the methods do to the model in the box: hours for the whole table, and resumable."""
    from flows.evidence import FILE, WORLDS, EvidenceSettings

    if show:
        from flows.evidence.measuring import shipped_table

        _show(shipped_table(), as_json)
        return
    settings = EvidenceSettings(out, count, seeds, tuple(changes or ()), model, questions, question_format)
    with prefect_at(local_folder(out)), progress_unless_json(as_json):
        from flows.evidence.measuring import FOLDER, measure, selected_rows
        from infra.store import open_store

        evidence_table = measure(settings, selected_rows(only or (), FILE if questions else WORLDS))
    _show(evidence_table, as_json)
    if not as_json:
        store = open_store(out)
        for name, file in (("table", "evidence.json"), ("chapter", "evidence.md"), ("plots", "plots")):
            console.print(f"{name}: {store.place(f'{FOLDER}/{file}')}", soft_wrap=True)


def _show(evidence_table: dict[str, Any], as_json: bool) -> None:
    """Print the table with its groups, or its JSON."""
    from flows.evidence.table import GROUPS, circumstances, figure_rows, group_rows, left_out, row_title

    if not as_json:
        for row in evidence_table["rows"]:
            console.print(table(row_title(row), *figure_rows(row)))
            if left_out(row):
                console.print(f"not measured: {left_out(row)}")
            if "measured" in row:
                console.print(circumstances(row["measured"]))
            for groups in GROUPS:
                if row["grouped"] and row[groups]:
                    console.print(table(f"  by {groups.removesuffix('s')}", *group_rows(row, groups)))
        console.print(circumstances(evidence_table["measured"]))
    finish(as_json, evidence_table, [])
