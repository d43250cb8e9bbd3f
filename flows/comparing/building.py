"""Building the variants of a recipe, one after the other over one store, and the table of what came of them.

All variants are planned before any call, so that a fault in one of them costs nothing. Samples and verdicts that
variants share are paid for once, because they are the same calls and the ledger has them. A variant whose dataset is
published is not built again: the same command goes on where it was interrupted, and in the end makes no call.
Variants with the same models share their servers.

The table and the plot are in the store, in `comparisons/RECIPE-ID/`.
"""

import contextlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.build import build
from flows.comparing.measuring import Picks, calls_of, picks_of, quality
from flows.comparing.variants import Variant, Variation
from flows.evaluate import evaluate
from flows.shard import shard_recipe
from flows.train import train
from infra.canonical import fingerprint
from infra.errors import YieldError
from infra.ledger import Ledger
from infra.recipe import Recipe
from infra.running import progress
from infra.running.server_away import run_when_server_answers
from infra.serving.servers import serve_recipe
from infra.store import Store, open_store
from tasks.planning.estimate import currency
from tasks.planning.make_plan import make_plan
from tasks.planning.rules import as_planned
from tasks.publishing import draft_dataset
from tasks.records.plan import Plan
from tasks.records.shard import read_shard_result
from tasks.reporting.variants import variants_markdown, variants_plot

STAGE = "variants"


@dataclass(frozen=True, slots=True)
class PlannedVariant:
    """A variant, its plan, and its recipe with the rules of the plan."""

    variant: Variant
    plan: Plan
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class BuiltVariant:
    """A variant whose dataset is published in `folder`. `model`: what evaluation returned; None without training."""

    planned: PlannedVariant
    folder: str
    model: Mapping[str, Any] | None


def compare_variants(variants: Sequence[Variant], variations: Sequence[Variation], trained: bool) -> dict[str, Any]:
    """Build what is missing, measure all variants, write table and plot.

    Returns the content of table.json, and in "run" the calls that were made now and reused, in "folder" and "plot"
    where the files are ("plot" is None without references).
    """
    store = open_store(variants[0].recipe.store)
    planned = []
    for variant in variants:
        plan = make_plan(variant.recipe, store)
        planned.append(PlannedVariant(variant, plan, as_planned(variant.recipe, plan)))
    progress.expect(STAGE, len(planned))
    run = {"made": 0, "reused": 0}
    built = []
    for _, group in itertools.groupby(planned, key=_models_of):
        built += _build_group(store, list(group), trained, run)
    comparison = {
        "recipe": variants[0].recipe.name,
        "variations": [_variation_to_json(variation) for variation in variations],
        "currency": currency(variants[0].recipe),
        "rows": _rows(store, built),
    }
    return {**comparison, "run": run, **_write(store, comparison, planned)}


def published_folder(store: Store, planned: PlannedVariant) -> str | None:
    """The folder of the variant's dataset in the store; None while it is not published."""
    results = []
    for shard in planned.plan.shards:
        result = read_shard_result(store, planned.plan.plan_id, shard.index)
        if result is None:
            return None
        results.append(result)
    draft = draft_dataset(planned.plan, results, planned.recipe, store)
    return draft.folder if draft.manifest is not None else None


def _build_group(
    store: Store, group: Sequence[PlannedVariant], trained: bool, run: dict[str, int]
) -> list[BuiltVariant]:
    """Build the variants of a group that have no dataset; their models are the same, so one set of servers is enough.

    Adds the calls to `run`.
    """
    first = group[0].recipe
    folders = [published_folder(store, planned) for planned in group]
    needs_models = trained or None in folders
    built_variants = []
    with serve_recipe(first) if needs_models else contextlib.nullcontext(first) as served:
        for planned, folder in zip(group, folders, strict=True):
            progress.note(STAGE, f"building {planned.variant.name}")
            parameters = shard_recipe(planned.recipe.model_copy(update=served.models()))
            if folder is None:
                built = run_when_server_answers(_build, parameters, planned)
                folder = built["dataset"]["path"]
                _add_calls(run, built["calls"])
            model = None
            if trained:
                manifest = f"{folder}/manifest.json"
                adapter = (
                    run_when_server_answers(train, parameters, manifest)
                    if planned.recipe.training is not None
                    else None
                )
                model = run_when_server_answers(evaluate, parameters, manifest, adapter)
                _add_calls(run, model["calls"])
            built_variants.append(BuiltVariant(planned, folder, model))
            progress.advance(STAGE)
    return built_variants


def _build(parameters: dict[str, Any], planned: PlannedVariant) -> dict[str, Any]:
    """What the flow `build` returns. Raises YieldError, with the variant's name, when nothing is published of it."""
    try:
        built: dict[str, Any] = build(parameters, planned.plan.plan_id)
    except YieldError as error:
        message = f"variant {planned.variant.name}: {error}; or leave this value out, the others are kept"
        raise YieldError(message) from error
    return built


def _add_calls(run: dict[str, int], calls: Mapping[str, Mapping[str, int]]) -> None:
    for counts in calls.values():
        run["made"] += counts["made"]
        run["reused"] += counts["reused"]


def _rows(store: Store, built_variants: Sequence[BuiltVariant]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    earlier_keys: set[str] = set()
    first_picks: Picks = {}
    with Ledger(store) as ledger:
        for built in built_variants:
            plan, recipe, variant = built.planned.plan, built.planned.recipe, built.planned.variant
            calls = calls_of(store, ledger, plan, recipe)
            picks = picks_of(store, plan, recipe)
            if not rows:
                first_picks = picks
            rows.append(
                {
                    "values": list(variant.values),
                    "value_names": list(variant.value_names),
                    "plan_id": plan.plan_id,
                    "dataset": store.place(built.folder),
                    **quality(store, built.folder, picks, first_picks),
                    "calls": {"total": len(calls.keys), "new": len(calls.keys - earlier_keys)},
                    "tokens": {"prompt": calls.prompt_tokens, "completion": calls.completion_tokens},
                    "cost": calls.cost,
                    "model": built.model,
                }
            )
            earlier_keys |= calls.keys
    return rows


def _models_of(planned: PlannedVariant) -> str:
    """The models of a variant: the same for variants that can use the same servers."""
    models = planned.recipe.models()
    return fingerprint({section: model.model_dump(mode="json") for section, model in models.items()})


def _variation_to_json(variation: Variation) -> dict[str, Any]:
    return {"key": variation.key, "name": variation.name, "numeric": variation.numeric()}


def _write(store: Store, comparison: dict[str, Any], planned_variants: Sequence[PlannedVariant]) -> dict[str, Any]:
    """Write table.json, table.md and plot.png; returns where they are."""
    identity = []
    for planned in planned_variants:
        identity.append([planned.plan.plan_id, list(planned.variant.value_names)])
    folder = f"comparisons/{comparison['recipe']}-{fingerprint(identity)[:8]}"
    text = json.dumps(comparison, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    store.write(f"{folder}/table.json", text.encode("utf-8", "replace"))
    store.write(f"{folder}/table.md", variants_markdown(comparison).encode("utf-8", "replace"))
    plot = variants_plot(comparison)
    if plot is not None:
        store.write(f"{folder}/plot.png", plot)
    return {"folder": store.place(folder), "plot": store.place(f"{folder}/plot.png") if plot is not None else None}
