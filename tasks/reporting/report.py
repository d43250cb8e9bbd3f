"""The report of a run: report.json for programs, report.html for people (see page.py), plots beside them.

What a run did not do (no training, no references) is stated, not filled in. Unlike a dataset, a report is about one
run: it holds the run's calls and costs, its seconds and the paths of this store.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import PurePosixPath
from typing import Any

from infra.errors import InputError
from infra.models.budget import call_cost
from infra.recipe import Recipe
from infra.store import Store
from tasks.evaluation.calls import calls_by_section
from tasks.judging.reward_settings import called_models
from tasks.planning.estimate import currency
from tasks.records.hint import rerun_command
from tasks.records.manifest import read_manifest
from tasks.records.shard import paired_questions
from tasks.reporting.page import report_page, sample_pairs
from tasks.reporting.plots import comparison_plot
from tasks.reporting.summary import Summary

CALLS = ("made", "reused", "retried", "failed")
_COMPARISON = ("before", "after", "difference", "questions", "cut", "buckets", "kinds")
_LIBRARIES = ("longmill", "datasets", "openai", "peft", "prefect", "pyarrow", "torch", "transformers", "trl")
_COST_DIGITS = 6

Counts = Mapping[str, Mapping[str, int]]  # of calls, by kind


def write_report(
    store: Store,
    name: str,
    recipe: Recipe,
    built: Mapping[str, Any],
    trained: Mapping[str, Any] | None,
    comparison: Mapping[str, Any] | None,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Write reports/NAME/ and return the content of its report.json.

    `built` is what the build flow returned, `trained` what training did or null, `comparison` what
    `tasks.evaluation.compare` returned (with "calls") or null, `seconds` the time by stage. Raises InputError
    when the build has published nothing.
    """
    if not built.get("dataset"):
        raise InputError(
            f"plan {built['plan_id']} has no dataset yet, so there is nothing to report on; "
            f"run its other shards with: {rerun_command(store, built['plan_id'], '--failed')}"
        )
    manifest = read_manifest(store, built["dataset"]["manifest"])
    data_folder = built["dataset"]["manifest"].rpartition("/")[0]
    summary = Summary.from_json(json.loads(store.read(f"{data_folder}/summary.json")))
    folder = f"reports/{name}"
    report = {
        **_figures(recipe, manifest, summary, built, comparison),
        "drop_examples": drop_examples(store, data_folder, manifest),
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        "recipe": recipe.name,
        "judge": recipe.judge.name if recipe.judge else None,
        **_products(store, data_folder, built, trained),
        "report": store.place(folder),
        "versions": versions(),
    }
    plots = _plots(store, data_folder, manifest, comparison)
    for plot, image in plots.items():
        store.write(f"{folder}/plots/{plot}.png", image)
    page = report_page(report, plots, sample_pairs(store, data_folder, manifest), data_folder)
    store.write(f"{folder}/report.html", page.encode("utf-8", "replace"))
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    store.write(f"{folder}/report.json", text.encode("utf-8", "replace"))
    return report


def drop_examples(store: Store, folder: str, manifest: Mapping[str, Any]) -> dict[str, str]:
    """By reason, what the first question that was dropped for it says: with the server's words where it refused."""
    examples: dict[str, str] = {}
    for file in manifest["files"]:
        if file.get("config") == "drops":
            drops = store.read_table(f"{folder}/{file['path']}", ["reason", "detail"]).to_pylist()
            for drop in drops:
                examples.setdefault(drop["reason"], drop["detail"])
    return dict(sorted(examples.items()))


def _products(
    store: Store, data_folder: str, built: Mapping[str, Any], trained: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What the run has made, and where it lies."""
    return {
        "plan_id": built["plan_id"],
        "dataset": store.place(data_folder),
        "manifest": {"path": built["dataset"]["manifest"], "sha256": built["dataset"]["sha256"]},
        "splits": dict(built["dataset"].get("splits", {})),
        "yield": dict(built["dataset"].get("yield", {})),
        "adapter": store.place(trained["model"]) if trained else None,
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
    evaluation_counts = (comparison or {}).get("calls", {})
    counts_by_model = dict(built.get("calls_by_model") or {"policy": built.get("calls", {})})
    counts = add_counts(*counts_by_model.values(), evaluation_counts)
    for section, of_section in calls_by_section(evaluation_counts, recipe).items():
        counts_by_model[section] = add_counts(counts_by_model.get(section, {}), of_section)
    calls = {}
    for kind, counts_of_kind in counts.items():
        calls[kind] = {name: counts_of_kind[name] for name in CALLS}
    return {
        "questions": manifest["counts"]["questions"],
        "pairs": manifest["counts"]["pairs"],
        "paired_questions": paired_questions(manifest["counts"]),
        "drops": dict(manifest["counts"]["drops"]),
        "answers": summary.answers,
        "finish_reasons": dict(summary.finish_reasons),
        "calls": calls,
        "special_tokens": {kind: counts_of_kind.get("special_tokens", 0) for kind, counts_of_kind in counts.items()},
        "restarts": dict(built.get("restarts", {})),
        **({"settled": dict(built["settled"])} if built.get("settled") else {}),
        "tokens": total_tokens(counts.values()),
        "cost": run_cost(recipe, counts_by_model),
        "bill": built.get("bill"),
        "subem": dict(summary.subem),
        "scores": dict(summary.scores),
        "agreement": dict(summary.agreement) if summary.agreement else None,
        "judging": dict(summary.judging),
        "model": {name: (comparison or {}).get(name) for name in _COMPARISON},
    }


def _plots(
    store: Store, data_folder: str, manifest: Mapping[str, Any], comparison: Mapping[str, Any] | None
) -> dict[str, bytes]:
    """The dataset's plots as published, and before them the comparison by length of the first metric that has one."""
    plots = {}
    for file in manifest["files"]:
        path = PurePosixPath(file["path"])
        if path.parent.name == "plots":
            plots[path.stem] = store.read(f"{data_folder}/{path}")
    figures = comparison or {}
    by_length = figures.get("buckets") or (figures.get("groups") or {}).get("length") or []
    for metric in figures.get("before") or {}:
        image = comparison_plot(by_length, metric)
        if image is not None:
            return {"by-length": image, **plots}
    return plots


def versions() -> dict[str, str]:
    """The versions of the libraries that figures depend on."""
    versions = {}
    for library in _LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = "not installed"
    return versions


def run_cost(recipe: Recipe, counts_by_model: Mapping[str, Counts]) -> dict[str, Any]:
    """Cost of the calls made in this run, `amount`, and of those that the ledger saved, `reused`; total and by model.

    `thinking` is the part of `amount` that went into thinking; `kinds` has the amount by kind of call.
    `counts_by_model`: counts of calls by the name of the model (`called_models`). Each model has its own price.
    """
    models = {}
    kinds: dict[str, float] = {}
    total_amount = total_reused = total_thinking = 0.0
    called = called_models(recipe)
    for section, counts in counts_by_model.items():
        price = called[section].call_price
        tokens = total_tokens(counts.values())
        amount = call_cost(tokens["prompt"]["made"], tokens["completion"]["made"], price)
        reused = call_cost(tokens["prompt"]["reused"], tokens["completion"]["reused"], price)
        thinking = call_cost(0, tokens["thinking"]["made"], price)
        models[section] = {
            "amount": round(amount, _COST_DIGITS),
            "reused": round(reused, _COST_DIGITS),
            "thinking": round(thinking, _COST_DIGITS),
        }
        for kind, counts_of_kind in counts.items():
            of_kind = call_cost(counts_of_kind["prompt_tokens"], counts_of_kind["completion_tokens"], price)
            kinds[kind] = round(kinds.get(kind, 0.0) + of_kind, _COST_DIGITS)
        total_amount += models[section]["amount"]
        total_reused += models[section]["reused"]
        total_thinking += models[section]["thinking"]
    return {
        "amount": round(total_amount, _COST_DIGITS),
        "reused": round(total_reused, _COST_DIGITS),
        "thinking": round(total_thinking, _COST_DIGITS),
        "currency": currency(recipe),
        "models": models,
        "kinds": kinds,
    }


def total_tokens(counts: Iterable[Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Prompt and completion tokens of the calls made in this run, and of the replies that were reused.

    "thinking" is what the calls made have spent on thinking; it is part of the completion tokens, and of their price.
    """
    total: Counter[str] = Counter()
    for counts_of_kind in counts:
        total.update(counts_of_kind)
    return {
        "prompt": {"made": total["prompt_tokens"], "reused": total["reused_prompt_tokens"]},
        "completion": {"made": total["completion_tokens"], "reused": total["reused_completion_tokens"]},
        "thinking": {"made": total["reasoning_tokens"]},
    }


def add_counts(*sources: Counts) -> dict[str, Counter[str]]:
    """Counters of calls by kind, those of the same kind added."""
    sums: dict[str, Counter[str]] = {}
    for source in sources:
        for kind, counts in source.items():
            sums.setdefault(kind, Counter()).update(counts)
    return sums
