"""The build with its store in a bucket: published there, resumed from there, and honest about an outage."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.bench.common import stub_recipe, write_questions
from flows.cli.plan_state import plan_status
from flows.cli.views import path_in_store
from infra.errors import InputError, LongmillError, StoreError
from infra.recipe import Pairing, Recipe
from infra.store import open_store
from tasks.records.manifest import verify_manifest
from tasks.records.shard import paired_questions
from tests.support.command import Command, Ended
from tests.support.proxy import ProxySwitch, running_proxy
from tests.support.s3 import s3_bucket
from tests.support.stub_server import StubServer, running_stub

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect")]


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with running_stub() as server:
        yield server


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_bucket(monkeypatch) as url:
        yield f"{url}/mill"


@pytest.fixture
def line(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProxySwitch]:
    """A line to the bucket that can be cut; the client's retries do not wait, and a cut line is not waited for."""
    monkeypatch.setattr("infra.store.patience.AWAY_S", 0.0)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    with running_proxy(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2])) as line:
        monkeypatch.setenv("AWS_ENDPOINT_URL", line.url)
        yield line


def recipe_for(folder: Path, stub: StubServer, bucket: str) -> Recipe:
    write_questions(folder / "questions.jsonl", 12, 600)
    execution = {"shard_size": 5, "batch_calls": 8, "concurrency": 4, "attempts": 2, "task_retries": 0}
    recipe = stub_recipe(folder, stub.url, execution=execution, sampling={"samples": 4})
    return recipe.model_copy(update={"store": bucket})


def build(recipe: Recipe) -> dict[str, Any]:
    from flows.build import build as build_flow
    from flows.shard import shard_recipe

    return build_flow(shard_recipe(recipe))


def test_a_build_publishes_to_the_bucket_and_again_calls_nothing(folder: Path, stub: StubServer, bucket: str) -> None:
    recipe = recipe_for(folder, stub, bucket)
    first = build(recipe)
    assert first["calls"]["sample"]["made"] == 48
    assert first["dataset"]["folder"] == f"{bucket}/{first['dataset']['path']}"
    store = open_store(bucket)
    assert verify_manifest(store, first["dataset"]["manifest"])["counts"] == first["dataset"]["counts"]
    again = build(recipe)
    assert again["dataset"] == first["dataset"]
    assert stub.stats()["requests"] == 48
    assert not (folder / "store").exists()


@pytest.mark.parametrize("pairs", [1, 3])
def test_the_bytes_in_a_bucket_are_those_of_a_folder(folder: Path, stub: StubServer, bucket: str, pairs: int) -> None:
    pairing = Pairing(pairs_per_question=pairs)
    recipe = recipe_for(folder, stub, bucket).model_copy(update={"pairing": pairing})
    there, here = build(recipe), build(recipe.model_copy(update={"store": str(folder / "store")}))
    assert there["dataset"]["sha256"] == here["dataset"]["sha256"]
    counts = here["dataset"]["counts"]
    assert counts["questions"] == 12 == paired_questions(counts) + sum(counts["drops"].values())
    assert (counts["pairs"] > paired_questions(counts)) == (pairs > 1)


def test_after_an_outage_another_machine_goes_on_and_pays_the_missing_calls_only(
    folder: Path, stub: StubServer, bucket: str, line: ProxySwitch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = recipe_for(folder, stub, bucket)
    stub.witness = lambda: line.cut() if stub.requests == 20 else None
    with pytest.raises(LongmillError, match=r"check the network and AWS_ENDPOINT_URL") as caught:
        build(recipe)
    assert isinstance(caught.value.__cause__, StoreError)
    paid = stub.stats()["answered"]
    line.mend()
    store = open_store(bucket)
    store.delete(*store.list("leases"))  # it could not be given back; waiting until it ends is test_one_build's
    kept = sum(1 for _ in _ledger_keys(bucket))
    assert 0 < paid - 4 <= kept <= paid < 48  # a reply under way when the line was cut could not be kept

    fresh = tmp_path_factory.mktemp("another-machine")
    path = fresh / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json") | {"store": "mill"}), encoding="utf-8")
    ended = longmill(fresh, "build", str(path), "--set", f"store={bucket}", "--json")
    assert ended.status == 0, ended.err
    built = json.loads(ended.out)
    assert built["calls"]["sample"]["made"] == 48 - kept
    assert stub.stats()["answered"] - paid == 48 - kept
    assert stub.stats()["distinct"] == 48
    assert built["dataset"]["folder"].startswith(bucket)

    status = longmill(fresh, "status", "--store", bucket)
    assert status.status == 0, status.err
    assert f"plan {built['plan_id']}" in status.out
    assert {each["state"] for each in plan_status(bucket, "")[0]["shards"]} == {"done"}


def longmill(machine: Path, *arguments: str) -> Ended:
    """The command in the only folder of a machine."""
    return Command(machine, machine, *arguments).ended()


def _ledger_keys(bucket: str) -> Iterator[str]:
    store = open_store(bucket)
    for path in store.list("ledger"):
        yield from store.read_table(path, ["key"]).column("key").to_pylist()


def test_paths_in_a_bucket_are_taken_as_they_are_shown(bucket: str) -> None:
    store = open_store(bucket)
    store.write("datasets/d/1/manifest.json", b"{}")
    shown = store.place("datasets/d/1")
    assert shown == f"{bucket}/datasets/d/1"
    for given in (shown, f"{shown}/", f"{shown}/manifest.json", "datasets/d/1"):
        for url in (bucket, f"{bucket}/"):
            assert path_in_store(url, given) == "datasets/d/1/manifest.json"
    for given in ("datasets/d/2", f"{bucket}-other/datasets/d/1", "s3://elsewhere/d"):
        with pytest.raises(InputError, match=r"check the path|lies outside the store"):
            path_in_store(bucket, given)
