"""What `plan` shows, as JSON values; and paths that a person gives, as paths in the store."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from flows.cli.inspecting import plain
from flows.early import check_early
from infra.errors import EvaluationError, InputError
from infra.ledger import Ledger
from infra.models.api_key import check_api_keys
from infra.recipe import Recipe
from infra.store import Store, open_store
from tasks.asking.forecast import asking_view
from tasks.asking.planning import make_asking_plan
from tasks.asking.recipes import asking_half
from tasks.planning.embedding_fit import embedding_fit
from tasks.planning.estimate import estimate
from tasks.planning.evaluation_share import evaluation_share
from tasks.planning.limits import unsaid_training_note
from tasks.planning.make_plan import make_plan
from tasks.planning.references import count_references, first_question
from tasks.planning.sizing import JUDGE_SPEED, POLICY_SPEED, GpuSpeed, sizing
from tasks.planning.training_steps import expected_training
from tasks.records.plan import Plan
from tasks.reporting.dataset_card import shortened
from tasks.yield_gate import reading_yield

_PROMPT_LENGTH = 1000  # characters of the first prompt that `plan` shows


def plan_view(recipe: Recipe, policy: GpuSpeed = POLICY_SPEED, judge: GpuSpeed = JUDGE_SPEED) -> dict[str, Any]:
    """Make the plan of a recipe and estimate it, without a paid call; the speeds are those of one GPU."""
    template_notes = check_early(recipe)
    store = open_store(recipe.store)
    plan = make_plan(recipe, store)
    with Ledger(store) as ledger:
        estimated = estimate(plan, recipe, store, ledger)
        evaluation, evaluation_note = _evaluation(plan, recipe, store, ledger, policy, judge)
    counts = count_references(store, plan)
    view = {"plan_id": plan.plan_id, "shards": len(plan.shards), **estimated.to_json(), "references": counts.to_json()}
    view["sizing"] = sizing(plan, estimated, recipe, store, policy, judge).to_json()
    fit = embedding_fit(store, plan, recipe)
    view["embedding"] = fit.to_json() if fit else None
    notes = (counts.note, fit.note if fit else "", unsaid_training_note(plan, recipe, store), evaluation_note)
    for note in (*notes, *template_notes):
        if note:
            view["warnings"].append(note)
    reading = reading_yield(store, plan)
    if reading.share > recipe.execution.max_drop_share:
        view["warnings"].append(
            f"a build stops here: {reading.faults.total():,} of {reading.questions:,} rows cannot be used, more than "
            f"execution.max_drop_share = {recipe.execution.max_drop_share:g}"
        )
    view["evaluation"] = evaluation
    training = expected_training(plan, recipe)
    view["training"] = training.to_json() if training else None
    first = dict(first_question(store, plan, recipe))
    first["prompt"] = shortened(first["prompt"], _PROMPT_LENGTH)
    return {**view, "first_question": first}


def _evaluation(
    plan: Plan, recipe: Recipe, store: Store, ledger: Ledger, policy: GpuSpeed, judge: GpuSpeed
) -> tuple[dict[str, Any] | None, str]:
    """What evaluating takes, and a warning where there is nothing to evaluate on: the dataset can be built all the
    same."""
    try:
        share = evaluation_share(plan, recipe, store, ledger)
    except EvaluationError as error:
        return None, f"`longmill run` cannot evaluate: {error}"
    return share.to_json(policy, judge) if share else None, ""


def asking_plan_view(recipe: Recipe) -> dict[str, Any]:
    """Make the plan of asking about a recipe's documents, and say what it takes, without a paid call."""
    check_api_keys(recipe)
    half = asking_half(recipe)
    store = open_store(half.store)
    view = asking_view(make_asking_plan(half, store), half, store)
    view["first_prompt"] = shortened(view["first_prompt"], _PROMPT_LENGTH)
    return view


def first_question_page(first: Mapping[str, Any]) -> Iterator[Text]:
    """The first question as it will be asked, shortened in the middle, and its references."""
    yield plain(f"\nthe first question, {first['example_id']}, as it will be asked", "bold")
    yield plain(first["prompt"])
    yield Text("\nits references", "bold")
    yield plain(" · ".join(first["references"]) or "none")


def path_in_store(store_url: str, path: str, file: str = "manifest.json") -> str:
    """The path in the store of `file` in a folder, or of the file itself; `path` may be one in the store or on disk.

    Raises InputError when it lies outside the store, or is not there.
    """
    store = open_store(store_url)
    inside = path.removeprefix(f"{store_url.rstrip('/')}/")
    root = store.local_path("")
    if root is not None and Path(path).exists():
        try:
            inside = str(Path(path).resolve().relative_to(root.resolve()))
        except ValueError:
            raise InputError(f"{path}: lies outside the store {store_url}; give --set store=FOLDER") from None
    if "://" in inside:
        raise InputError(f"{path}: lies outside the store {store_url}; give --set store=URL")
    if not inside.endswith(f"/{file}"):
        inside = f"{inside.rstrip('/')}/{file}"
    if not store.exists(inside):
        raise InputError(f"{path}: no {file} there in the store {store_url}; check the path")
    return inside


def trained_at(store_url: str, folder: str) -> dict[str, Any]:
    """What the train flow returned for the model in a folder of the store."""
    path = path_in_store(store_url, folder, "result.json")
    trained: dict[str, Any] = json.loads(open_store(store_url).read(path))
    return trained
