"""The report of a run: report.json for programs, report.html for people, plots beside them.

The page stands alone: its style and plots are in it, it loads nothing and runs nothing, and every text enters it
escaped. It follows the reader's light or dark setting and fits a phone. What a run did not do (no training, no
references) is said, not filled in. Unlike a dataset, a report is about one run: it holds its calls, its seconds
and the paths of this store.
"""

import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from infra.errors import InputError
from infra.recipe import Recipe
from infra.store import Store
from tasks.records.manifest import read_manifest
from tasks.records.shard import paired_questions
from tasks.reporting.cost import add_counts, run_cost, total_tokens
from tasks.reporting.page import report_page
from tasks.reporting.plots import comparison_plot, dataset_plots
from tasks.reporting.samples import sample_pairs
from tasks.reporting.summary import Summary

CALLS = ("made", "reused", "retried", "failed")
_LIBRARIES = ("longmill", "datasets", "openai", "peft", "prefect", "pyarrow", "torch", "transformers", "trl")


def write_report(
    store: Store,
    name: str,
    recipe: Recipe,
    built: Mapping[str, Any],
    trained: Mapping[str, Any] | None,
    comparison: Mapping[str, Any] | None,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Write reports/NAME/ and return what its report.json says.

    `built` is what the build flow returned, `trained` what training did or null, `comparison` what
    `tasks.evaluation.compare` returned (with "calls") or null, `seconds` the time by stage. Raises InputError
    when the build has published nothing.
    """
    if not built.get("dataset"):
        raise InputError(
            f"plan {built['plan_id']} has no dataset yet, so there is nothing to report on; "
            f"run its other shards with: longmill rerun {built['plan_id']} --failed"
        )
    manifest = read_manifest(store, built["dataset"]["manifest"])
    data_folder = built["dataset"]["manifest"].rpartition("/")[0]
    summary = Summary.from_json(json.loads(store.read(f"{data_folder}/summary.json")))
    folder = f"reports/{name}"
    report = {
        **_figures(recipe, manifest, summary, built, comparison),
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        "recipe": recipe.name,
        "judge": recipe.judge.name if recipe.judge else None,
        **_made(store, data_folder, built, trained),
        "report": store.show(folder),
        "versions": _versions(),
    }
    plots = _plots(summary, comparison)
    for plot, image in plots.items():
        store.write(f"{folder}/plots/{plot}.png", image)
    page = report_page(report, summary, plots, sample_pairs(store, data_folder, manifest), data_folder)
    store.write(f"{folder}/report.html", page.encode("utf-8", "replace"))
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    store.write(f"{folder}/report.json", text.encode("utf-8", "replace"))
    return report


def _made(
    store: Store, data_folder: str, built: Mapping[str, Any], trained: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What the run has made, and where it lies."""
    return {
        "plan_id": built["plan_id"],
        "dataset": store.show(data_folder),
        "manifest": {"path": built["dataset"]["manifest"], "sha256": built["dataset"]["sha256"]},
        "splits": dict(built["dataset"].get("splits", {})),
        "adapter": store.show(trained["model"]) if trained else None,
        "trained": dict(trained) if trained else None,
    }


def _figures(
    recipe: Recipe,
    manifest: Mapping[str, Any],
    summary: Summary,
    built: Mapping[str, Any],
    comparison: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The part of the report that counts and measures."""
    evaluated = (comparison or {}).get("calls", {})
    by_model = dict(built.get("calls_by_model") or {"policy": built.get("calls", {})})
    counts = add_counts(*by_model.values(), evaluated)
    by_model["policy"] = add_counts(by_model["policy"], evaluated)  # evaluation asks the policy alone
    compared = ("before", "after", "difference", "questions", "cut", "buckets", "kinds")
    return {
        "questions": manifest["counts"]["questions"],
        "pairs": manifest["counts"]["pairs"],
        "paired_questions": paired_questions(manifest["counts"]),
        "drops": dict(manifest["counts"]["drops"]),
        "answers": summary.answers,
        "finish_reasons": dict(summary.finish_reasons),
        "calls": {kind: {name: each[name] for name in CALLS} for kind, each in counts.items()},
        "tokens": total_tokens(counts.values()),
        "cost": run_cost(recipe, by_model),
        "subem": dict(summary.subem),
        "scores": dict(summary.scores),
        "agreement": dict(summary.agreement) if summary.agreement else None,
        "judging": dict(summary.judging),
        "model": {name: (comparison or {}).get(name) for name in compared},
    }


def _plots(summary: Summary, comparison: Mapping[str, Any] | None) -> dict[str, bytes]:
    plots = dataset_plots(summary)
    buckets: Sequence[Mapping[str, Any]] = (comparison or {}).get("buckets") or []
    for metric in (comparison or {}).get("before") or {}:
        if (image := comparison_plot(buckets, metric)) is not None:
            return {"by-length": image, **plots}
    return plots


def _versions() -> dict[str, str]:
    versions = {}
    for library in _LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = "not installed"
    return versions
