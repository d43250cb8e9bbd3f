"""A run with the same inputs has nothing to do, as long as all that it made is in the store as it left it."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.recipe import Recipe
from infra.store import Store, open_store
from tasks import finished_run as module
from tasks.finished_run import finished_run, record_run, run_inputs
from tests.support.planning import pooled_rows, small_recipe

MADE = {
    "datasets/small/d1/manifest.json": b"{}",
    "datasets/small/d1/data/train.parquet": b"rows",
    "datasets/small/latest.json": b'{"manifest": "datasets/small/d1/manifest.json"}',
    "models/small/m1/adapter.safetensors": b"weights",
    "reports/small/report.json": b"{}",
}


def finished(folder: Path) -> tuple[Recipe, Store]:
    """A recipe whose run has ended, and its store."""
    recipe = small_recipe(folder, pooled_rows(3))
    store = open_store(recipe.store)
    for path, data in MADE.items():
        store.write(path, data)
    report = {
        "manifest": {"path": "datasets/small/d1/manifest.json"},
        "report": store.place("reports/small"),
        "trained": {"model": "models/small/m1"},
    }
    record_run(store, recipe, run_inputs(recipe, 1), [report])
    return recipe, store


@pytest.fixture(autouse=True)
def published_with_these_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "servers_may_wait", lambda store, recipe: True)


def test_the_same_run_again_has_its_reports(tmp_path: Path) -> None:
    recipe, store = finished(tmp_path)
    again = finished_run(store, recipe, run_inputs(recipe, 1))
    assert again is not None
    assert again.reports[0]["trained"] == {"model": "models/small/m1"}
    assert again.ended.endswith("+00:00")


@pytest.mark.medium
def test_other_inputs_are_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, store = finished(tmp_path)
    assert finished_run(store, recipe, run_inputs(recipe, 2)) is None
    other = recipe.model_copy(update={"seed": 5})
    assert finished_run(store, other, run_inputs(other, 1)) is None
    questions = Path(recipe.questions.source)
    rows = questions.read_text()
    questions.write_text(rows.replace("number 1", "number 7"))
    assert finished_run(store, recipe, run_inputs(recipe, 1)) is None
    questions.write_text(rows)
    assert finished_run(store, recipe, run_inputs(recipe, 1)) is not None
    code = tmp_path / "code"
    code.mkdir()
    (code / "prompt.txt").write_text("Think.")
    monkeypatch.setattr(module, "_CODE", (*module._CODE, str(code)))
    assert finished_run(store, recipe, run_inputs(recipe, 1)) is None


@pytest.mark.medium
@pytest.mark.parametrize("path", sorted(MADE))
def test_what_is_gone_or_changed_is_made_again(tmp_path: Path, path: str) -> None:
    recipe, store = finished(tmp_path)
    inputs = run_inputs(recipe, 1)
    store.write(path, json.dumps({"manifest": "datasets/small/d2/manifest.json"}).encode())
    assert finished_run(store, recipe, inputs) is None
    store.delete(path)
    assert finished_run(store, recipe, inputs) is None
    store.write(path, MADE[path])
    assert finished_run(store, recipe, inputs) is not None


def test_a_server_that_must_be_asked_again_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, store = finished(tmp_path)
    monkeypatch.setattr(module, "servers_may_wait", lambda store, recipe: False)
    assert finished_run(store, recipe, run_inputs(recipe, 1)) is None


@pytest.mark.medium
def test_a_record_that_cannot_be_read_is_no_record(tmp_path: Path) -> None:
    recipe, store = finished(tmp_path)
    for record in (b"{", b"[]", b"{}", b'{"inputs": 1}'):
        store.write("reports/small/run.json", record)
        assert finished_run(store, recipe, run_inputs(recipe, 1)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"questions": {"source": "s3://bucket/questions.jsonl"}},
        {"questions": {"source": "someone/a-dataset-on-the-hub"}},
        {"contexts": {"build": "pooled", "pool": "s3://bucket/pool.jsonl"}},
        {"policy": {"tokenizer": "someone/a-model-on-the-hub"}},
        {"evaluation": {"suites": [{"name": "heldout", "rows": "s3://bucket/rows.jsonl"}]}},
    ],
)
def test_inputs_that_are_elsewhere_cannot_be_told(tmp_path: Path, changes: dict[str, Any]) -> None:
    recipe = small_recipe(tmp_path, pooled_rows(3), **changes)
    assert run_inputs(recipe, 1) is None
    record_run(open_store(recipe.store), recipe, None, [])
    assert finished_run(open_store(recipe.store), recipe, None) is None
