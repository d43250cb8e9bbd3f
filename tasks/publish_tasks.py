"""Publishing a dataset as Prefect tasks: the rows of shards that did not write them, then the manifest."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from infra.canonical import fingerprint
from infra.running.prefect import TASK_SETTINGS, cache_key, emit, live
from infra.urls import without_user
from tasks.publishing import DatasetDraft, Published, draft_dataset, finish_dataset, write_shard
from tasks.records.manifest import ManifestFile
from tasks.records.plan import Plan
from tasks.records.shard import ShardResult
from tasks.resources import RunResources
from tasks.step_tasks import run_in_prefect, store_key
from tasks.yield_gate import check_plan, warning_of

PUBLISHED = "longmill.dataset.published"  # the event
MOST_PARTS = 400  # tasks of one publication; with more shards, a part holds several


@task(name="publish part", task_run_name="{label}", cache_key_fn=cache_key, **TASK_SETTINGS)
def publish_part(
    resources: RunResources, plan: Plan, results: Sequence[ShardResult], draft: DatasetDraft, label: str, key: str
) -> list[list[ManifestFile]]:
    """Write the files of some shards; returns them by shard."""
    parts = []
    for result in results:
        parts.append(write_shard(plan, result, resources.recipe, resources.store, draft))
    return parts


@task(name="publish manifest", task_run_name="publish {name}", cache_policy=NO_CACHE)
def publish_manifest(
    resources: RunResources,
    plan: Plan,
    results: Sequence[ShardResult],
    draft: DatasetDraft,
    written: dict[int, list[ManifestFile]],
    name: str,
) -> dict[str, Any]:
    """Write summary, plots and card, and last the manifest. Never cached."""
    published: Published = finish_dataset(plan, results, resources.recipe, resources.store, draft, written)
    return published.to_json()


def publish_dataset(resources: RunResources, plan: Plan, results: Sequence[ShardResult]) -> dict[str, Any]:
    """Publish the dataset of a plan whose shards all have `results`; the manifest comes last.

    Returns the `Published` values and "yield": the run's figures (`Yield.to_json`), a line "warning" where many
    questions gave no pair, and a line "smaller" where the last dataset of its name has more pairs; else "". Raises
    YieldError when too many gave no pair.
    """
    store, execution = resources.store, resources.recipe.execution
    draft = draft_dataset(plan, results, resources.recipe, store)
    outcome = check_plan(store, plan, results, execution, draft.parts)
    written: dict[int, list[ManifestFile]] = {}
    if draft.manifest is None:
        not_ready = [result for result in results if result.shard not in draft.ready]
        size = max(1, math.ceil(len(not_ready) / MOST_PARTS))
        for start in range(0, len(not_ready), size):
            of_part = not_ready[start : start + size]
            files_by_shard = _publish_part(resources, plan, of_part, draft)
            for result, files in zip(of_part, files_by_shard, strict=True):
                written[result.shard] = files
    name = resources.recipe.dataset.name
    published = publish_manifest(live(resources), live(plan), live(results), live(draft), live(written), name)
    if draft.manifest is None:
        _tell_of_dataset(resources, published)
    lines = {"warning": warning_of(store, plan, results, outcome, execution), "smaller": published.pop("smaller")}
    return {**published, "yield": {**outcome.to_json(), **lines}}


def _tell_of_dataset(resources: RunResources, published: Mapping[str, Any]) -> None:
    """An event of a new dataset, for automations: infra/deploy/automations/published.yaml acts on it."""
    payload = {name: published[name] for name in ("manifest", "sha256", "version", "counts")}
    payload["store"] = without_user(resources.recipe.store)
    name = resources.recipe.dataset.name
    emit(PUBLISHED, f"longmill.dataset.{name}.{published['version']}", name, payload)


def _publish_part(
    resources: RunResources, plan: Plan, results: Sequence[ShardResult], draft: DatasetDraft
) -> list[list[ManifestFile]]:
    first, last = results[0].shard, results[-1].shard
    label = f"publish part {first:04d}" if first == last else f"publish part {first:04d}-{last:04d}"
    identity = [draft.folder, draft.split.to_json(), draft.with_reasoning, [result.to_json() for result in results]]
    key = f"{store_key(resources.store)}-{fingerprint(identity)}"

    def is_whole(files_by_shard: list[list[ManifestFile]]) -> bool:
        for files in files_by_shard:
            for file in files:
                if not resources.store.exists(f"{draft.folder}/{file['path']}"):
                    return False
        return True

    arguments = (live(resources), live(plan), live(results), live(draft), label, key)
    parts, _ = run_in_prefect(publish_part, arguments, is_whole, resources.recipe.execution)
    return list(parts)
