"""What nothing names is listed and removed; what a plan, a result, a manifest or a live lease names stays."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.maintain import tidy
from infra.errors import StoreError
from infra.store import Store, open_store
from infra.store.lease import Holder, Lease
from tasks.publishing import publish
from tasks.records.manifest import verify_manifest
from tasks.records.plan import load_plan, load_shard, plan_path
from tasks.records.shard import read_shard_result
from tests.support.published import fake_plan, fake_recipe
from tests.support.s3 import store_url
from tests.tasks.test_shard_part import with_parts

GARBAGE = {
    "inputs/" + "0" * 64 + ".parquet": "an input of no plan",
    "plans/PLAN/shards/0000/answers-0123456789abcdef.parquet": "a table of no shard's result",
    "plans/PLAN/shards/0000.part-0123456789abcdef.json": "a part of no shard's result",
    "plans/PLAN/rows/data/train/0000-0123456789abcdef.parquet": "rows of no shard's result",
    "plans/PLAN/runs/0123-00001.json": "a report of an earlier run",
    "leases/PLAN/0001.json": "a lease of an earlier build",
    "leases/PLAN/0001.beat": "a lease of an earlier build",
    "datasets/fake/0123456789abcdef/data/train/0000-1.parquet": "a file of no published dataset",
    "datasets/fake/VERSION/data/stray.parquet": "a file of no published dataset",
    ".probe/0123": "a probe of the store",
    "planning/0123/ranges/000001.json.zst": "what a killed planning left",
}
OTHERS = ("models/m/result.json", "reports/r/report.json", "ledger-set-aside/s.parquet", "logs/vllm.log", "notes.txt")


@pytest.fixture(autouse=True)
def plain_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.publishing.dataset_plots", lambda summary: {"margins": b"a plot"})


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with store_url(request.param, tmp_path, monkeypatch) as url:
        yield url


def planted(url: str) -> tuple[Store, str, dict[str, str]]:
    """A store with a published plan and files that nothing names; returns store, plan and what those files are."""
    store, recipe = open_store(url), fake_recipe(Path(url) if "://" not in url else Path("/nowhere"))
    made = fake_plan(store, recipe)
    with_parts(store, recipe, made)
    published = publish(made[0], made[1], recipe, store)
    for path in OTHERS:
        store.write(path, b"theirs")
    garbage = {}
    for path, what in GARBAGE.items():
        place = path.replace("PLAN", made[0].plan_id).replace("VERSION", published.version)
        store.write(place, b"1 ended" if path.endswith(".beat") else b"garbage")
        garbage[place] = what
    return store, made[0].plan_id, garbage


@pytest.mark.medium
def test_what_nothing_names_is_listed_first_and_removed_when_that_is_said(url: str) -> None:
    store, _, garbage = planted(url)
    before = store.list()
    listed = tidy(store, remove=False, grace_days=0.0)
    assert listed["paths"] == sorted(garbage)
    assert (listed["files"], listed["bytes"], listed["removed"]) == (len(garbage), 7 * len(garbage), False)
    assert set(listed["kinds"]) == set(garbage.values())
    assert store.list() == before
    removed = tidy(store, remove=True, grace_days=0.0)
    assert removed["paths"] == listed["paths"]
    assert store.list() == sorted(set(before) - set(garbage))
    (manifest,) = [path for path in store.list("datasets") if path.endswith("manifest.json")]
    verify_manifest(store, manifest)
    assert tidy(store, remove=True, grace_days=0.0)["paths"] == []


def test_young_files_stay(tmp_path: Path) -> None:
    store, _, garbage = planted(str(tmp_path))
    assert tidy(store, remove=True, grace_days=7.0)["paths"] == []
    old, young = sorted(garbage)[3:5]
    for path in store.list():
        days = 6.9 if path == young else 30
        os.utime(tmp_path / path, (time.time() - days * 86_400,) * 2)
    assert tidy(store, remove=True, grace_days=7.0)["paths"] == sorted(garbage.keys() - {young})
    assert not store.exists(old)
    assert store.exists(young)


@pytest.mark.medium
def test_what_a_build_works_on_stays(url: str) -> None:
    store, plan_id, garbage = planted(url)
    store.delete(f"leases/{plan_id}/0001.beat", f"leases/{plan_id}/0001.json")
    holder = replace(Holder.this_process("build there"), machine="another machine", host="there")
    lease = Lease(store, f"leases/{plan_id}", holder)
    assert lease.try_to_take() is None
    assert tidy(store, remove=True, grace_days=0.0)["paths"] == [".probe/0123"]
    lease.beat()
    assert tidy(store, remove=True, grace_days=0.0)["paths"] == []
    lease.release()
    listed = tidy(store, remove=True, grace_days=0.0)["paths"]
    assert listed == sorted(garbage.keys() - {".probe/0123"})
    assert load_shard(store, load_plan(store, plan_id), 1)


def test_shards_without_a_result_keep_what_they_have(tmp_path: Path) -> None:
    store, plan_id, garbage = planted(str(tmp_path))
    store.delete(f"plans/{plan_id}/shards/0000.json")
    needed = {path for path in garbage if f"plans/{plan_id}/shards/" in path or f"plans/{plan_id}/rows" in path}
    assert tidy(store, remove=True, grace_days=0.0)["paths"] == sorted(garbage.keys() - needed)
    assert read_shard_result(store, plan_id, 1) is not None


def test_the_halves_of_killed_writes_are_removed(tmp_path: Path) -> None:
    store, plan_id, _ = planted(str(tmp_path))
    half = tmp_path / "plans" / plan_id / f".{'0' * 32}.part"
    half.write_bytes(b"half")
    assert f"plans/{plan_id}/{half.name}" not in store.list()
    tidy(store, remove=True, grace_days=0.0)
    assert not half.exists()


def test_a_plan_that_cannot_be_read_stops_it_before_anything_is_removed(tmp_path: Path) -> None:
    store, plan_id, _ = planted(str(tmp_path))
    before = store.list()
    plan = store.read(plan_path(plan_id))
    store.write(plan_path(plan_id), plan[:-10])
    with pytest.raises(StoreError, match="damaged"):
        tidy(store, remove=True, grace_days=0.0)
    assert store.list() == before


def test_the_verb_lists_and_removes_only_when_told(tmp_path: Path) -> None:
    store, _, garbage = planted(str(tmp_path))
    listed = CliRunner().invoke(app, ["maintain", "--store", str(tmp_path), "--grace-days", "0"])
    assert listed.exit_code == 0, listed.output
    assert "would be removed" in listed.output
    assert all(path in listed.output for path in garbage)
    assert all(store.exists(path) for path in garbage)
    CliRunner().invoke(app, ["maintain", "--store", str(tmp_path), "--grace-days", "0", "--remove"])
    assert not any(store.exists(path) for path in garbage)
