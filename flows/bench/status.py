"""`longmill status` of a plan of a million questions: listings and small records, whatever the tables hold.

The plan is made up: its records and the names of its files are those of a real one, nine in ten shards are finished,
one in a thousand has failed, and a build has reported. Processor seconds stand beside those of the clock.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.bench.finished_shards import finished_recipe
from infra.canonical import canonical_json, fingerprint
from infra.recipe import Recipe
from infra.store import open_store
from tasks.records.plan import Plan, plan_path, recipe_path, resolve_plan

_TOKENS = 8000  # of a prompt


def measure(shards: int = 15_625, questions: int = 64) -> dict[str, Any]:
    """Seconds of `status PLAN`, of `status`, and of finding a plan by the beginning of its id, in a local folder."""
    from flows.cli.plan_state import plan_status

    with tempfile.TemporaryDirectory() as folder:
        plan_id = make_plan_of_many_shards(Path(folder), shards, questions)
        store = open_store(folder)
        return {
            "questions": shards * questions,
            "shards": shards,
            "plan": _timed(lambda: plan_status(folder, plan_id[:6])),
            "all_plans": _timed(lambda: plan_status(folder, "")),
            "resolve": _timed(lambda: resolve_plan(store, plan_id[:6])),
        }


def make_plan_of_many_shards(folder: Path, shards: int, questions: int) -> str:
    """Write the records of a plan into a store's folder, and files with the names of its tables; returns its id."""
    from flows.reports import build_path

    recipe = finished_recipe(str(folder), 8)
    plan = _plan(recipe, shards, questions)
    place = folder / "plans" / plan.plan_id
    (place / "shards").mkdir(parents=True)
    (folder / plan_path(plan.plan_id)).write_bytes(canonical_json(plan.to_json()))
    (folder / recipe_path(plan.plan_id)).write_text(json.dumps(recipe.model_dump(mode="json")), encoding="utf-8")
    for index in range(shards):
        name = place / "shards" / f"{index:04d}"
        if index % 1000 == 999:
            error = {"shard": index, "plan_id": plan.plan_id, "error": "ModelError", "message": "no luck"}
            name.with_suffix(".failed.json").write_bytes(canonical_json(error))
        elif index < 0.9 * shards:
            name.with_suffix(".json").write_bytes(b"{}")
            name.with_suffix(".part-0123456789abcdef.json").write_bytes(b"{}")
            name.mkdir()
            for table in ("answers", "judgements", "pairs", "drops"):
                (name / f"{table}-0123456789abcdef.parquet").touch()
    calls = {"made": 8_000_000, "prompt_tokens": 64_000_000_000, "completion_tokens": 4_000_000_000}
    report = {
        "run": {"id": "", "name": "build bench"},
        "state": "failed",
        "error": "no luck",
        "started": "2026-11-28T12:00:00+00:00",
        "at": "2026-11-28T18:00:00+00:00",
        "questions": shards * questions,
        "scored": shards * questions * 9 // 10,
        "per_minute": 2500.0,
        "shards": [],
        "calls": {"policy": {"sample": calls}},
        "earlier": {},
        "dataset": None,
    }
    (folder / build_path(plan.plan_id)).write_bytes(canonical_json(report))
    return plan.plan_id


def _plan(recipe: Recipe, shards: int, questions: int) -> Plan:
    planned = []
    for index in range(shards):
        name = f"{index:064x}"
        tables = {"examples": f"inputs/{name}.parquet", "contexts": f"inputs/{name[::-1]}.parquet"}
        tokens = questions * (_TOKENS + 37 * (index % 100))
        counts = {"questions": questions, "context_count": questions, "prompt_tokens": tokens}
        planned.append({"index": index, **tables, **counts})
    content = {
        "recipe": recipe.identity(),
        "prompts": {},
        "shards": planned,
        "questions": shards * questions,
        "drops": f"inputs/{'0' * 64}.parquet",
        "drop_counts": {},
        "exact_prompt_tokens": True,
        "warnings": [],
    }
    return Plan.from_json(json.loads(canonical_json({"plan_id": fingerprint(content)[:16], **content})))


def _timed(work: Callable[[], Any]) -> dict[str, float]:
    start, processor = time.monotonic(), time.process_time()
    work()
    return {"seconds": round(time.monotonic() - start, 2), "processor_s": round(time.process_time() - processor, 2)}
