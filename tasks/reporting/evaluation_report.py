"""The report of an evaluation: evaluations/NAME-ID/ in the store, with report.json, report.html and plots beside them.

Its ID is that of the questions and the models, so that the same evaluation writes the same folder again. report.json
has all figures, the questions that changed most with both answers, the overlap with the training data, and the calls.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from infra.canonical import fingerprint
from infra.recipe import Recipe
from infra.store import Store
from tasks.evaluation.compare import EvaluationRow
from tasks.records.example import Example
from tasks.reporting.comparison_tables import headline_metric
from tasks.reporting.evaluation_page import HEAT_MAP, Image, Several, evaluation_page
from tasks.reporting.evaluation_plots import evaluation_plots
from tasks.reporting.heat_map import heat_map
from tasks.reporting.report import versions

CHANGED = 10  # questions that are shown with both answers

Examples = Mapping[tuple[str, str], Example]  # by suite's label and example id


def write_evaluation(
    store: Store,
    recipe: Recipe,
    outcome: Mapping[str, Any],
    before: Sequence[EvaluationRow],
    after: Sequence[EvaluationRow] | None,
    examples: Examples,
    *,
    after_name: str | None,
    command: str,
    several: Several | None = None,
) -> dict[str, Any]:
    """Write the folder and return the content of report.json, with the folder's place in "report".

    `outcome` is what the flow `evaluate` returns; `command` makes it again.
    """
    suites = outcome.get("suites") or {"": outcome}
    models = {"before": f"{recipe.policy.name} {recipe.policy.revision}".strip()}
    if after_name is not None:
        models["after"] = after_name
    contents = sorted([suite, example.question, example.context_id] for (suite, _), example in examples.items())
    identity = fingerprint({"models": models, "questions": contents, "command": command})[:8]
    folder = f"evaluations/{recipe.name}-{identity}"
    changed: dict[str, list[dict[str, Any]]] = {}
    plots: dict[str, dict[str, Image]] = {}
    for label, of_suite in suites.items():
        rows = [row for row in before if row.suite == label]
        other = None if after is None else [row for row in after if row.suite == label]
        metric = headline_metric(of_suite)
        changed[label] = changed_most(rows, other or (), examples, metric) if metric else []
        plots[label] = suite_plots(of_suite, rows, other, metric) if metric else {}
    report = {
        "recipe": recipe.name,
        "command": command,
        "models": models,
        "suites": dict(suites),
        "changed": changed,
        "overlap": outcome.get("overlap"),
        "calls": dict(outcome.get("calls") or {}),
        "several": dict(several.figures) if several else None,
        "report": store.place(folder),
        "versions": versions(),
    }
    for label, of_label in plots.items():
        for name, image in of_label.items():
            _write_plot(store, f"{folder}/plots/{label or 'all'}-{name}", image)
    if several and several.plot:
        _write_plot(store, f"{folder}/plots/steps", several.plot)
    page = evaluation_page(report, several, plots)
    store.write(f"{folder}/report.html", page.encode("utf-8", "replace"))
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    store.write(f"{folder}/report.json", text.encode("utf-8", "replace"))
    return report


def suite_plots(
    outcome: Mapping[str, Any],
    before: Sequence[EvaluationRow],
    after: Sequence[EvaluationRow] | None,
    metric: str,
) -> dict[str, Image]:
    """The plots of a suite by name; where its questions have a depth and a length, the map of both comes first."""
    plots = evaluation_plots(outcome, metric)
    depth_by_length = heat_map(before, after, metric)
    return plots if depth_by_length is None else {HEAT_MAP: depth_by_length, **plots}


def changed_most(
    before: Sequence[EvaluationRow], after: Sequence[EvaluationRow], examples: Examples, metric: str
) -> list[dict[str, Any]]:
    """The questions whose `metric` differs most between two models, the most first.

    Of equal ones those whose other metrics differ more, then by id. {"example_id", "question", "references",
    "before": {"answer", "score"}, "after": the same}.
    """
    others = {(row.suite, row.example_id): row for row in after}
    changes = []
    for row in before:
        other = others.get((row.suite, row.example_id))
        differences = _differences(row, other) if other is not None else {}
        if other is not None and differences.get(metric):
            order = (-abs(differences[metric]), -sum(map(abs, differences.values())), row.example_id)
            changes.append((order, row, other))
    changed = []
    for _, row, other in sorted(changes, key=lambda change: change[0])[:CHANGED]:
        example = examples[row.suite, row.example_id]
        changed.append(
            {
                "example_id": row.example_id,
                "question": example.question,
                "references": list(example.references),
                "before": {"answer": row.answer, "score": row.scores[metric]},
                "after": {"answer": other.answer, "score": other.scores[metric]},
            }
        )
    return changed


def evaluation_command(verb: str, recipe: Recipe, manifest: str | None, options: Sequence[tuple[str, str]] = ()) -> str:
    """The command that makes an evaluation again, without folders of this machine."""
    words = ["longmill", verb, f"{recipe.name}.yaml"]
    for name, value in [("--manifest", manifest or ""), *options]:
        if value:
            words += [name, value]
    return " ".join(words)


def _differences(row: EvaluationRow, other: EvaluationRow) -> dict[str, float]:
    """The change of every metric that both have."""
    differences: dict[str, float] = {}
    for metric, score in row.scores.items():
        other_score = other.scores.get(metric)
        if score is not None and other_score is not None:
            differences[metric] = other_score - score
    return differences


def _write_plot(store: Store, stem: str, image: Image) -> None:
    for ground, svg in image.items():
        store.write(f"{stem}-{ground}.svg", svg.encode())
