"""What a run leaves on its page in the Prefect UI, as Markdown: its figures, and where its results are."""

from collections.abc import Mapping
from typing import Any

from infra.store import Store
from tasks.records.hint import rerun_command
from tasks.reporting.tables import bill_rows, build_rows, markdown


def build_page(built: Mapping[str, Any], store: Store, name: str) -> str:
    """The page of a build: yield, drops, calls, bill, and the paths of what it has published."""
    parts = [f"# {markdown_text(name)}, plan {built['plan_id']}", markdown(*build_rows(dict(built)))]
    columns, rows = bill_rows(built.get("bill"))
    if rows:
        parts.append("## Bill\n\n" + markdown(columns, rows))
    parts.append("## Results\n\n" + results_list(built, store))
    return "\n".join(parts)


def results_list(outcome: Mapping[str, Any], store: Store) -> str:
    """Where the dataset and the report are; how to go on where shards have no result."""
    dataset = outcome.get("dataset")
    if not dataset:
        command = rerun_command(store, outcome["plan_id"], "--failed")
        return f"- nothing is published: some shards have no result. Run them with `{command}`\n"
    lines = [
        f"- dataset: `{dataset['folder']}`",
        f"- manifest: `{store.place(dataset['manifest'])}`",
        f"- look at its pairs: `longmill inspect {dataset['folder']}`",
    ]
    return "\n".join(lines) + "\n"


def markdown_text(text: str) -> str:
    """A text in which no character makes markup."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|" else letter for letter in text)
