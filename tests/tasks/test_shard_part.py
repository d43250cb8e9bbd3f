"""The part that a shard writes: publishing from parts gives the bytes that publishing from the tables gives."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.errors import BalanceError, StoreError
from infra.recipe import Recipe
from infra.store import Store, open_store
from tasks import publishing
from tasks.publishing import draft_dataset, finish_dataset, parts_of, publish
from tasks.records.manifest import read_manifest, verify_manifest
from tasks.records.plan import load_shard
from tasks.records.table import StoredTable
from tasks.reporting import dataset_card
from tasks.shard_part import spending_of, write_shard_part
from tasks.yield_gate import check_plan, run_yield
from tests.support.published import PlanAndResults, fake_plan, fake_recipe
from tests.support.s3 import store_url


@pytest.fixture(autouse=True)
def plain_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "dataset_plots", lambda summary: {"margins": b"a plot"})


def with_parts(store: Store, recipe: Recipe, made: PlanAndResults, shards: tuple[int, ...] | None = None) -> None:
    """Write the parts of these shards; of all without `shards`."""
    plan, results = made
    for result in results:
        if shards is None or result.shard in shards:
            write_shard_part(plan, result, recipe, store, *load_shard(store, plan, result.shard))


def files_of(store: Store, folder: str) -> dict[str, bytes]:
    return {path: store.read(path) for path in store.list(folder)}


def from_tables(folder: Path, recipe_options: dict[str, Any], **options: Any) -> dict[str, bytes]:
    """The dataset's files without any part."""
    store, recipe = open_store(str(folder)), fake_recipe(folder, **recipe_options)
    plan, results = fake_plan(store, recipe, **options)
    return files_of(store, publish(plan, results, recipe, store).path)


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["file", "s3"])
@pytest.mark.parametrize("shards", [None, (0, 2), ()])
def test_parts_of_all_or_of_some_shards_give_the_bytes_that_the_tables_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, shards: tuple[int, ...] | None
) -> None:
    expected = from_tables(tmp_path / "tables", {"pairs": 3}, shards=3)
    with store_url(kind, tmp_path, monkeypatch) as url:
        store, recipe = open_store(url), fake_recipe(tmp_path, pairs=3)
        plan, results = made = fake_plan(store, recipe, shards=3)
        with_parts(store, recipe, made, shards)
        assert files_of(store, publish(plan, results, recipe, store).path) == expected


def test_publishing_from_parts_reads_no_table_of_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, recipe = open_store(str(tmp_path)), fake_recipe(tmp_path)
    plan, results = made = fake_plan(store, recipe, shards=3)
    with_parts(store, recipe, made)
    tables = {table.path for result in results for table in result.files.values()}
    inputs = {path for shard in plan.shards for path in (shard.examples, shard.contexts)}
    read: list[str] = []
    monkeypatch.setattr(store, "read", _recording(store.read, read))
    done = publish(plan, results, recipe, store)
    check_plan(store, plan, results, recipe.execution, parts_of(store, results))
    assert not (tables | inputs) & set(read)
    verify_manifest(store, done.manifest)


def _recording(read: Any, paths: list[str]) -> Any:
    def recorded(path: str) -> Any:
        paths.append(path)
        return read(path)

    return recorded


def test_rows_that_are_lost_or_cut_and_changed_figures_come_from_the_tables_again(tmp_path: Path) -> None:
    expected = from_tables(tmp_path / "tables", {}, shards=3)
    store, recipe = open_store(str(tmp_path)), fake_recipe(tmp_path)
    plan, results = made = fake_plan(store, recipe, shards=3)
    with_parts(store, recipe, made)
    parts = parts_of(store, results)
    folder = f"plans/{plan.plan_id}/rows"
    store.delete(f"{folder}/{parts[0].rows[0]['path']}")
    cut = f"{folder}/{parts[1].rows[0]['path']}"
    store.write(cut, store.read(cut)[:-1])
    store.write(parts[2].figures, store.read(parts[2].figures).replace(b'"pairs":5', b'"pairs":6'))
    draft = draft_dataset(plan, results, recipe, store)
    assert draft.ready == {2}
    assert files_of(store, publish(plan, results, recipe, store).path) == expected


def test_a_part_that_is_damaged_or_of_another_result_is_not_used(tmp_path: Path) -> None:
    store, recipe = open_store(str(tmp_path)), fake_recipe(tmp_path)
    plan, results = made = fake_plan(store, recipe, shards=2)
    with_parts(store, recipe, made)
    swapped = replace(results[0], files=results[1].files)
    assert parts_of(store, [swapped]) == {}
    (path,) = [path for path in store.list(f"plans/{plan.plan_id}/shards") if "0000.part-" in path]
    whole = store.read(path)
    for damaged in (b"{", b"[]", whole.replace(b'"questions":6', b'"questions":7'), whole.replace(b'"1.1"', b'"0.1"')):
        assert damaged != whole
        store.write(path, damaged)
        assert set(parts_of(store, results)) == {1}


def test_where_every_context_would_be_for_testing_the_last_one_of_all_parts_is_for_training(tmp_path: Path) -> None:
    expected = from_tables(tmp_path / "tables", {"test_fraction": 0.99}, shards=2)
    store, recipe = open_store(str(tmp_path)), fake_recipe(tmp_path, test_fraction=0.99)
    plan, results = made = fake_plan(store, recipe, shards=2)
    with_parts(store, recipe, made)
    draft = draft_dataset(plan, results, recipe, store)
    assert draft.split.always_train is not None
    assert draft.ready == frozenset()  # their rows are of a split without the exception
    assert files_of(store, publish(plan, results, recipe, store).path) == expected


def test_an_interruption_while_rows_are_placed_shows_nothing_and_the_next_run_completes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = from_tables(tmp_path / "tables", {}, shards=3)
    store, recipe = open_store(str(tmp_path)), fake_recipe(tmp_path)
    plan, results = made = fake_plan(store, recipe, shards=3)
    with_parts(store, recipe, made)
    draft = draft_dataset(plan, results, recipe, store)
    file = draft.parts[1].rows[0]["path"]
    store.copy({f"plans/{plan.plan_id}/rows/{file}": f"{draft.folder}/{file}"})
    with monkeypatch.context() as patched, pytest.raises(StoreError, match="disk full"):
        patched.setattr(store, "put_if_absent", _refused)
        finish_dataset(plan, results, recipe, store, draft, {})
    assert not store.exists(f"{draft.folder}/manifest.json")
    assert files_of(store, publish(plan, results, recipe, store).path) == expected


def _refused(path: str, data: bytes) -> bool:
    raise StoreError("disk full")


def test_a_shard_with_an_example_in_a_pair_and_in_a_drop_gets_no_part(tmp_path: Path) -> None:
    store, recipe = open_store(str(tmp_path)), fake_recipe(tmp_path)
    plan, results = fake_plan(store, recipe)
    table = store.read_table(results[0].files["drops"].path)
    path = "plans/other.parquet"
    sha256 = store.write_table(path, table.set_column(0, table.schema.field(0), [["q00000"]]))
    result = replace(results[0], files={**results[0].files, "drops": StoredTable(path, sha256, 1)})
    with pytest.raises(BalanceError, match="not each in pairs of different answers or in one drop"):
        write_shard_part(plan, result, recipe, store, *load_shard(store, plan, 0))
    assert parts_of(store, [result]) == {}


def test_the_yield_of_parts_is_that_of_the_tables(tmp_path: Path) -> None:
    store, recipe = open_store(str(tmp_path)), fake_recipe(tmp_path)
    _, results = made = fake_plan(store, recipe, shards=4)
    with_parts(store, recipe, made, (0, 1, 3))
    parts = parts_of(store, results)
    assert run_yield(store, results, parts) == run_yield(store, results)
    assert run_yield(store, results).faults  # there is something to lose


def test_spending_counts_calls_and_tokens_by_kind(tmp_path: Path) -> None:
    store, recipe = open_store(str(tmp_path)), fake_recipe(tmp_path)
    _, (result,) = made = fake_plan(store, recipe, shards=1)
    with_parts(store, recipe, made)
    (part,) = parts_of(store, [result]).values()
    answers = store.read_table(result.files["answers"].path).to_pylist()
    assert {kind: spent.calls for kind, spent in part.spending.items()} == {"sample": 24, "greedy": 6}
    for column in ("prompt_tokens", "completion_tokens"):
        total = sum(getattr(spent, column) for spent in part.spending.values())
        assert total == sum(answer[column] for answer in answers)
    assert part.without_usage == []
    assert spending_of([]).by_kind == {}


def test_the_card_names_folders_where_there_are_many_files_and_a_stray_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_card, "MOST_PATHS", 2)
    store, recipe = open_store(str(tmp_path)), fake_recipe(tmp_path, test_fraction=0.0)
    plan, results = made = fake_plan(store, recipe, shards=3)
    with_parts(store, recipe, made)
    draft = draft_dataset(plan, results, recipe, store)
    stray = f"{draft.folder}/data/train/0000-aaaaaaaaaaaaaaaa.parquet"
    store.write(stray, b"of an earlier run")
    with pytest.raises(StoreError, match=r"0000-aaaaaaaaaaaaaaaa\.parquet: not a file of this dataset"):
        publish(plan, results, recipe, store)
    assert not store.exists(f"{draft.folder}/manifest.json")
    store.delete(stray)
    done = publish(plan, results, recipe, store)
    card = store.read(f"{done.path}/README.md").decode()
    assert "- data/train/*.parquet" in card
    assert "0001-" not in card.partition("\n---\n")[0]
    datasets = pytest.importorskip("datasets")
    pairs = datasets.load_dataset(done.folder, cache_dir=str(tmp_path / "cache"))
    files = [file for file in read_manifest(store, done.manifest)["files"] if file.get("config") == "pairs"]
    assert len(pairs["train"]) == done.counts["pairs"] == sum(file["rows"] for file in files)


def test_figures_are_plain_json(tmp_path: Path) -> None:
    store, recipe = open_store(str(tmp_path)), fake_recipe(tmp_path)
    _, results = made = fake_plan(store, recipe, shards=1)
    with_parts(store, recipe, made)
    figures = json.loads(store.read(parts_of(store, results)[0].figures))
    assert figures["questions"] == 6
    assert len(figures["scores"]["consensus"]["values"]) == 24
