"""What a run leaves on its page in the Prefect UI, as Markdown: where its results are, and its figures.

Paths stand as code, since pages of the UI cannot link to a folder or a bucket.
"""

from collections.abc import Mapping
from typing import Any

from infra.store import Store
from tasks.records.hint import rerun_command
from tasks.records.product import QUESTIONS, product_of_counts
from tasks.reporting.tables import bill_rows, build_rows, markdown, report_rows


def build_summary(built: Mapping[str, Any], store: Store, name: str) -> str:
    """The summary of a build: what it has published, yield, drops, calls and bill."""
    dataset = built["dataset"]
    if dataset:
        results = _results(
            ("dataset", dataset["folder"]),
            ("manifest", store.place(dataset["manifest"])),
            _next_step(dataset),
        )
    else:
        command = rerun_command(store, built["plan_id"], "--failed")
        results = _results(("nothing is published: some shards have no result; run them with", command))
    parts = [f"## {_plain(name)}, plan {built['plan_id']}", results, markdown(*build_rows(dict(built)))]
    columns, rows = bill_rows(built.get("bill"))
    if rows:
        parts.append("### Bill\n\n" + markdown(columns, rows))
    return "\n\n".join(parts)


def report_summary(report: Mapping[str, Any], name: str) -> str:
    """The summary of a round: its dataset, model and report, and its figures."""
    paths = [("dataset", report["dataset"])]
    if report["trained"]:
        paths.append(("model", report["adapter"]))
    paths.append(("report", report["report"]))
    return "\n\n".join([f"## {_plain(name)}", _results(*paths), markdown(*report_rows(dict(report)))])


def _next_step(dataset: Mapping[str, Any]) -> tuple[str, str]:
    """What to do with a dataset."""
    if product_of_counts(dataset["counts"]) == QUESTIONS:
        return "build on them, in a recipe", f"questions: {{source: {dataset['folder']}}}"
    return "look at its pairs", f"longmill inspect {dataset['folder']}"


def _results(*paths: tuple[str, str]) -> str:
    return "\n".join(f"- {what}: `{path}`" for what, path in paths)


def _plain(text: str) -> str:
    """A text in which no character makes markup."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|" else letter for letter in text)
