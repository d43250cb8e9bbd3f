"""Publishing: the balance, the split, the same bytes, all or nothing, and readers that need no change."""

import gc
import hashlib
import itertools
import json
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import BalanceError, RecipeError, StoreError
from infra.recipe import Recipe
from infra.recipe.public import public_text
from infra.store import Store, open_store, table_bytes
from tasks import publishing
from tasks.publishing import Published, draft_dataset, finish_dataset, publish, write_shard
from tasks.records.dataset import Split
from tasks.records.manifest import manifests, read_manifest, verify_manifest
from tasks.records.plan import load_shard
from tasks.records.shard import ShardResult
from tasks.records.table import StoredTable
from tasks.reporting.plots import dataset_plots
from tasks.sample_prompt import sample_prompt
from tests.support.published import COUPLES, PlanAndResults, fake_plan, fake_recipe


@pytest.fixture(scope="module", autouse=True)
def plain_plots() -> Iterator[None]:
    """Drawing takes most of the time and is tested elsewhere; `drawn` brings it back."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(publishing, "dataset_plots", lambda summary: {"margins": b"a plot"})
        yield


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "dataset_plots", dataset_plots)


def made(folder: Path, **options: Any) -> tuple[Store, Recipe, PlanAndResults]:
    settings = {name: options.pop(name) for name in ("test_fraction", "name", "licence", "pairs") if name in options}
    store, recipe = open_store(str(folder)), fake_recipe(folder, **settings)
    return store, recipe, fake_plan(store, recipe, **options)


def published(folder: Path, **options: Any) -> tuple[Store, Recipe, PlanAndResults, Published]:
    store, recipe, (plan, results) = made(folder, **options)
    return store, recipe, (plan, results), publish(plan, results, recipe, store)


def rows_of(store: Store, done: Published, config: str, split: str) -> list[dict[str, Any]]:
    files = read_manifest(store, done.manifest)["files"]
    rows = []
    for file in files:
        if (file.get("config"), file.get("split")) == (config, split):
            rows += store.read_table(f"{done.path}/{file['path']}").to_pylist()
    return rows


def test_every_question_is_counted_and_every_file_is_named_by_its_hash(tmp_path: Path) -> None:
    store, _, (plan, _), done = published(tmp_path)
    assert done.counts["questions"] == plan.questions == 13
    assert done.counts["drops"] == {"duplicate_id": 1, "margin_too_small": 2}
    assert done.counts["pairs"] == 10 == sum(done.splits.values())
    manifest = verify_manifest(store, done.manifest)
    paths = {f"{done.path}/{file['path']}" for file in manifest["files"]}
    assert set(store.list(done.path)) == {*paths, done.manifest}
    assert done.sha256 == hashlib.sha256(store.read(done.manifest)).hexdigest()
    assert manifests(store, "fake") == [(done.manifest, done.sha256)]
    assert json.loads(store.read("datasets/fake/latest.json"))["manifest"] == done.manifest


def test_a_lost_question_fails_the_run_and_nothing_is_published(tmp_path: Path) -> None:
    store, recipe, (plan, results) = made(tmp_path)
    lost = replace(results[1], pairs=results[1].pairs - 1, paired_questions=results[1].paired_questions - 1)
    with pytest.raises(BalanceError, match=r"6 questions.*4 pairs of 4 questions, 1 each at most, \+ 1 drops"):
        publish(plan, [results[0], lost], recipe, store)
    for pairs in (4, 6):  # of five questions
        with pytest.raises(BalanceError, match=rf"6 questions.*{pairs} pairs of 5 questions, 1 each at most"):
            publish(plan, [results[0], replace(results[1], pairs=pairs)], recipe, store)
    with pytest.raises(BalanceError, match=r"shards \[0, 1\], but there are results of \[0\]"):
        publish(plan, results[:1], recipe, store)
    with pytest.raises(BalanceError, match=r"13 questions, but 10 with pairs \+ 2 drops"):
        publish(replace(plan, drop_counts={}), results, recipe, store)
    assert store.list("datasets") == []


def test_an_example_that_is_in_a_pair_and_in_a_drop_is_not_published(tmp_path: Path) -> None:
    store, recipe, (plan, results) = made(tmp_path)
    table = store.read_table(results[0].files["drops"].path)
    other = table.set_column(0, table.schema.field(0), [["q00000"]])
    path = "plans/other.parquet"
    sha256 = store.write_table(path, other)
    files = {**results[0].files, "drops": StoredTable(path, sha256, 1)}
    with pytest.raises(BalanceError, match="not each in pairs of different answers or in one drop"):
        publish(plan, [replace(results[0], files=files), results[1]], recipe, store)


def test_a_question_with_several_pairs_is_counted_once(tmp_path: Path) -> None:
    store, _, (plan, results), done = published(tmp_path, pairs=3)
    # Questions 4 and 9 of 0..11 are dropped; the others have 1 + n mod 3 pairs.
    counts = [(result.pairs, result.paired_questions, result.questions) for result in results]
    assert counts == [(10, 5, 6), (11, 5, 6)]
    assert (done.counts["pairs"], done.counts["paired_questions"]) == (21, 10)
    assert done.counts["questions"] == plan.questions == 10 + sum(done.counts["drops"].values())
    assert sum(done.splits.values()) == 21
    card = store.read(f"{done.path}/README.md").decode()
    assert "| read | 13 |\n| in a pair | 10 |\n| dropped: duplicate&#95;id | 1 |" in card.replace("_", "&#95;")
    assert "21 pairs from 13 questions" in card
    assert "pairing.pairs_per_question | 3" in card


def test_with_one_pair_a_question_no_count_of_paired_questions_is_written(tmp_path: Path) -> None:
    store, _, (_, results), done = published(tmp_path)
    manifest = read_manifest(store, done.manifest)
    assert manifest["counts"].keys() == {"questions", "pairs", "drops", "answers"}
    assert results[0].to_json()["counts"].keys() == {"questions", "pairs", "drops"}
    assert "pairs_per_question" not in manifest["recipe"]["pairing"]


def test_rows_of_a_question_are_together_in_order_and_evidence_marks_all(tmp_path: Path) -> None:
    store, _, _, done = published(tmp_path, pairs=3, test_fraction=0.0)
    rows = rows_of(store, done, "pairs", "train")
    couples: dict[str, list[tuple[int, int]]] = {}
    for example_id, rows_of_question in itertools.groupby(rows, key=lambda row: row["example_id"]):
        assert example_id not in couples  # no question comes a second time
        couples[example_id] = [(row["chosen_index"], row["rejected_index"]) for row in rows_of_question]
    assert len(rows) == 21
    assert couples["q00002"] == list(COUPLES)
    assert len({row["prompt"][0]["content"] for row in rows if row["example_id"] == "q00002"}) == 1
    marked = {
        row["sample_index"]: (row["is_chosen"], row["is_rejected"])
        for row in rows_of(store, done, "evidence", "train")
        if row["example_id"] == "q00002"
    }
    assert marked == {0: (True, False), 1: (True, False), 2: (False, True), 3: (False, True), -1: (False, False)}


def test_the_same_pair_twice_is_not_published(tmp_path: Path) -> None:
    store, recipe, (plan, results) = made(tmp_path, pairs=3)
    table = store.read_table(results[0].files["pairs"].path)
    path = "plans/twice.parquet"
    sha256 = store.write_table(path, table.take([0, *range(table.num_rows)]))
    files = {**results[0].files, "pairs": StoredTable(path, sha256, table.num_rows + 1)}
    twice = replace(results[0], files=files, pairs=results[0].pairs + 1)
    with pytest.raises(BalanceError, match="not each in pairs of different answers or in one drop"):
        publish(plan, [twice, results[1]], recipe, store)


@pytest.mark.medium
@pytest.mark.parametrize("pairs", [1, 3])
@pytest.mark.usefixtures("drawn")
def test_two_stores_get_the_same_bytes(tmp_path: Path, pairs: int) -> None:
    first, _, _, one = published(tmp_path / "one", pairs=pairs)
    second, _, _, two = published(tmp_path / "two", pairs=pairs)
    assert (one.sha256, one.version) == (two.sha256, two.version)
    assert [first.read(path) for path in first.list(one.path)] == [second.read(path) for path in second.list(two.path)]


def test_results_in_any_order_give_the_same_bytes(tmp_path: Path) -> None:
    *_, one = published(tmp_path / "one")
    store, recipe, (plan, results) = made(tmp_path / "two")
    assert publish(plan, results[::-1], recipe, store).sha256 == one.sha256


def test_no_time_no_folder_and_no_secret_is_in_the_dataset(tmp_path: Path) -> None:
    store, _, _, done = published(tmp_path)
    for path in store.list(done.path):
        data = store.read(path)
        for private in (b"somebody", b"secret-project", str(tmp_path).encode(), b"127.0.0.1"):
            assert private not in data, path
    assert public_text("/home/me/models/tiny") == "tiny"
    assert public_text("../shared/questions.jsonl") == "questions.jsonl"
    assert public_text("s3://key:secret@bucket/q.jsonl?token=1") == "s3://bucket/q.jsonl"
    assert public_text("Qwen/Qwen2.5-7B-Instruct") == "Qwen/Qwen2.5-7B-Instruct"


def test_publishing_again_writes_no_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, recipe, (plan, results), done = published(tmp_path)
    written: list[str] = []
    monkeypatch.setattr(store, "write", lambda path, data: written.append(path))
    assert publish(plan, results, recipe, store) == done
    assert written == ["datasets/fake/latest.json"]


def test_an_interrupted_publish_shows_nothing_and_the_next_completes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, undisturbed = published(tmp_path / "undisturbed")
    store, recipe, (plan, results) = made(tmp_path / "disturbed")
    total = len(open_store(str(tmp_path / "undisturbed")).list(undisturbed.path))
    for allowed in (0, 3, total - 2):
        with monkeypatch.context() as patched, pytest.raises(StoreError, match="disk full"):
            patched.setattr(store, "write", _failing_after(store.write, allowed))
            publish(plan, results, recipe, store)
        assert manifests(store, "fake") == []
        assert not store.exists("datasets/fake/latest.json")
    with monkeypatch.context() as patched, pytest.raises(StoreError, match="disk full"):
        patched.setattr(store, "put_if_absent", _failing_after(store.put_if_absent, 0))
        publish(plan, results, recipe, store)
    assert manifests(store, "fake") == []
    assert publish(plan, results, recipe, store).sha256 == undisturbed.sha256


def _failing_after(write: Callable[[str, bytes], Any], allowed: int) -> Callable[[str, bytes], Any]:
    count = 0

    def failing(path: str, data: bytes) -> Any:
        nonlocal count
        count += 1
        if count > allowed:
            raise StoreError("disk full")
        return write(path, data)

    return failing


def test_a_file_that_was_lost_after_publishing_is_made_again(tmp_path: Path) -> None:
    store, recipe, (plan, results), done = published(tmp_path)
    lost = next(path for path in store.list(done.path) if "/evidence/" in path)
    store.delete(lost)
    assert publish(plan, results, recipe, store) == done
    verify_manifest(store, done.manifest)


def test_a_manifest_with_other_bytes_is_never_replaced(tmp_path: Path) -> None:
    store, recipe, (plan, results), done = published(tmp_path)
    manifest = read_manifest(store, done.manifest)
    other = json.dumps({**manifest, "licence": "mit"}).encode()
    store.write(done.manifest, other)
    with pytest.raises(StoreError, match="another manifest stands here"):
        publish(plan, results, recipe, store)
    # The same head with another file list: only the commit itself can tell.
    shorter = json.dumps({**manifest, "files": [{**manifest["files"][0], "path": "data/train/gone.parquet"}]}).encode()
    store.write(done.manifest, shorter)
    with pytest.raises(StoreError, match="another manifest stands here"):
        publish(plan, results, recipe, store)
    assert store.read(done.manifest) == shorter


def test_changed_files_and_strange_manifests_are_found(tmp_path: Path) -> None:
    store, _, _, done = published(tmp_path)
    path = next(path for path in store.list(done.path) if "/data/train/" in path)
    data = bytearray(store.read(path))
    data[10] ^= 1
    store.write(path, bytes(data))
    with pytest.raises(StoreError, match=r"data/train/.*its bytes are not those that were written"):
        verify_manifest(store, done.manifest)
    for strange in (b"{}", b"[1]", b"not json", b'{"schema_version": 99, "files": []}'):
        store.write("datasets/strange/manifest.json", strange)
        with pytest.raises(StoreError):
            read_manifest(store, "datasets/strange/manifest.json")


def test_a_shard_table_that_was_changed_is_not_published(tmp_path: Path) -> None:
    store, recipe, (plan, results) = made(tmp_path)
    store.write(results[1].files["answers"].path, store.read(results[0].files["answers"].path))
    with pytest.raises(StoreError, match="not those that were written"):
        publish(plan, results, recipe, store)
    assert manifests(store, "fake") == []


def test_another_recipe_than_the_plans_is_refused_by_name(tmp_path: Path) -> None:
    store, recipe, (plan, results) = made(tmp_path)
    other = recipe.model_copy(update={"sampling": recipe.sampling.model_copy(update={"strategy": "plan_and_solve"})})
    with pytest.raises(RecipeError, match="sampling differ"):
        publish(plan, results, other, store)


def test_a_row_has_the_prompt_that_the_policy_got_and_its_provenance(tmp_path: Path) -> None:
    store, recipe, (plan, _), done = published(tmp_path, test_fraction=0.0)
    examples, contexts = load_shard(store, plan, 0)
    row = rows_of(store, done, "pairs", "train")[0]
    (example,) = [example for example in examples if example.example_id == row["example_id"]]
    prompt = sample_prompt(example, contexts[example.context_id].text, "default", recipe.policy)
    assert row["prompt"] == list(prompt.messages)
    assert [message["role"] for message in row["chosen"] + row["rejected"]] == ["assistant", "assistant"]
    assert row["margin"] == pytest.approx(row["chosen_reward"] - row["rejected_reward"])
    assert row["chosen_scores"] == [{"scorer": "consensus", "score": row["chosen_reward"]}]
    assert (row["model"], row["revision"], row["plan_id"]) == ("tiny-policy", "r7", plan.plan_id)
    assert (row["chosen_index"], row["rejected_index"], recipe.sampling.strategy) == (0, 3, row["strategy"])


def test_evidence_holds_every_answer_and_marks_the_pair(tmp_path: Path) -> None:
    store, _, _, done = published(tmp_path, test_fraction=0.0)
    rows = rows_of(store, done, "evidence", "train")
    assert len(rows) == done.counts["answers"] == 12 * 5
    greedy = [row for row in rows if row["sample_index"] == -1]
    assert len(greedy) == 12
    assert all(row["reward"] is None and row["judgements"] == [] for row in greedy)
    chosen = {row["example_id"]: row for row in rows if row["is_chosen"]}
    for pair in rows_of(store, done, "pairs", "train"):
        assert chosen.pop(pair["example_id"])["text"] == pair["chosen"][0]["content"]
    assert chosen == {}
    assert rows[0]["judgements"][0]["scorer"] == "consensus"
    assert len(rows[0]["ledger_key"]) == 64


@given(seed=st.integers(0, 2**31), fraction=st.floats(0, 1), contexts=st.sets(st.text(max_size=8), max_size=30))
def test_a_context_is_on_one_side_and_training_is_never_left_empty(
    seed: int, fraction: float, contexts: set[str]
) -> None:
    split = Split(seed, fraction).with_training(contexts)
    sides = {context: split.side(context) for context in contexts}
    assert not contexts or "train" in sides.values()
    again = Split.from_json(json.loads(json.dumps(split.to_json())))
    assert {context: again.side(context) for context in sorted(contexts, reverse=True)} == sides
    plain = Split(seed, fraction)
    moved = [context for context in contexts if plain.side(context) != sides[context]]
    assert len(moved) <= 1


@pytest.mark.medium
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 100), fraction=st.sampled_from([0.0, 0.2, 0.5, 1.0]), per_shard=st.integers(2, 7))
def test_no_context_is_on_both_sides_of_a_published_dataset(
    tmp_path_factory: pytest.TempPathFactory, seed: int, fraction: float, per_shard: int
) -> None:
    folder = tmp_path_factory.mktemp("split")
    store, _, _, done = published(folder, test_fraction=fraction, seed=seed, questions=per_shard)
    for config in ("pairs", "evidence"):
        train = {row["context_id"] for row in rows_of(store, done, config, "train")}
        test = {row["context_id"] for row in rows_of(store, done, config, "test")}
        assert train
        assert not train & test
    assert fraction or not rows_of(store, done, "pairs", "test")


def test_the_share_of_test_contexts_is_about_the_fraction() -> None:
    split = Split(7, 0.25)
    tested = sum(split.side(f"context {number}") == "test" for number in range(4000))
    assert 900 < tested < 1100


def test_load_dataset_reads_the_folder_and_the_files_unchanged(tmp_path: Path) -> None:
    import datasets

    store, _, _, done = published(tmp_path / "mill", shards=3)
    datasets.disable_progress_bars()
    cache = str(tmp_path / "cache")
    pairs = datasets.load_dataset(done.folder, cache_dir=cache)
    assert {side: len(rows) for side, rows in pairs.items()} == dict(done.splits)
    assert set(pairs) == {"train", "test"}
    evidence = datasets.load_dataset(done.folder, "evidence", cache_dir=cache)
    assert sum(len(rows) for rows in evidence.values()) == done.counts["answers"]
    drops = datasets.load_dataset(done.folder, "drops", cache_dir=cache, split="train")
    assert sorted(drops["reason"]) == ["duplicate_id", *["margin_too_small"] * 3]
    files = [f"{done.folder}/{path}" for path in _train_files(store, done)]
    plain = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache)
    assert plain[0] == pairs["train"][0]


def test_without_test_contexts_the_card_names_no_test_split(tmp_path: Path) -> None:
    import datasets

    *_, done = published(tmp_path / "mill", test_fraction=0.0)
    assert "split: test" not in (Path(done.folder) / "README.md").read_text(encoding="utf-8")
    pairs = datasets.load_dataset(done.folder, cache_dir=str(tmp_path / "cache"))
    assert list(pairs) == ["train"]


def test_a_part_is_written_alone_and_again_with_the_same_bytes(tmp_path: Path) -> None:
    store, recipe, (plan, results), done = published(tmp_path / "whole")
    parts_store = open_store(str(tmp_path / "parts"))
    plan, results = fake_plan(parts_store, recipe)
    draft = draft_dataset(plan, results, recipe, parts_store)
    assert parts_store.list("datasets") == []
    assert (draft.folder, draft.manifest) == (done.path, None)
    parts = {}
    for result in results[::-1]:
        part = write_shard(plan, result, recipe, parts_store, draft)
        assert write_shard(plan, result, recipe, parts_store, draft) == part
        parts[result.shard] = json.loads(json.dumps(part))  # as a Prefect task would cache it
    assert manifests(parts_store, "fake") == []
    finished = finish_dataset(plan, results, recipe, parts_store, draft, parts)
    assert (finished.sha256, finished.splits) == (done.sha256, done.splits)
    files = read_manifest(parts_store, finished.manifest)["files"]
    assert files == read_manifest(store, done.manifest)["files"]
    written = parts[0] + parts[1]
    assert [file for file in files if file in written] == written
    again = draft_dataset(plan, results, recipe, parts_store)
    assert finish_dataset(plan, results, recipe, parts_store, again, {}) == finished


def test_a_dataset_without_a_pair_still_accounts_for_every_question(tmp_path: Path) -> None:
    store, recipe, (plan, results) = made(tmp_path)
    none = [_without_pairs(store, plan.plan_id, result) for result in results]
    done = publish(plan, none, recipe, store)
    assert done.counts["pairs"] == 0
    assert done.counts["drops"] == {"duplicate_id": 1, "margin_too_small": 12}
    assert done.splits == {}
    assert "config_name: pairs" not in store.read(f"{done.path}/README.md").decode()


def _without_pairs(store: Store, plan_id: str, result: ShardResult) -> ShardResult:
    import pyarrow as pa

    pairs = store.read_table(result.files["pairs"].path)
    drops = store.read_table(result.files["drops"].path).to_pylist()
    drops += [{**drops[0], "example_id": example_id} for example_id in pairs.column("example_id").to_pylist()]
    tables = dict(result.files)
    for name, table in (
        ("pairs", pairs.slice(0, 0)),
        ("drops", pa.Table.from_pylist(drops, schema=store.read_table(result.files["drops"].path).schema)),
    ):
        tables[name] = StoredTable.put(store, f"plans/{plan_id}/none-{result.shard}-{name}", table)
    return ShardResult.of(store, plan_id, result.shard, result.questions, tables)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch and trl, on their own imports
def test_trl_trains_on_it_unchanged(tmp_path: Path) -> None:
    import datasets
    import trl

    from tests.support.tiny_model import save_tiny, tiny_tokenizer

    *_, done = published(tmp_path / "mill")
    pairs = datasets.load_dataset(done.folder, cache_dir=str(tmp_path / "cache"))
    assert trl.is_conversational(pairs["train"][0])
    settings = trl.DPOConfig(
        output_dir=str(tmp_path / "out"),
        max_steps=1,
        per_device_train_batch_size=2,
        max_length=1024,
        report_to=[],
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        gradient_checkpointing=False,
    )
    trainer = trl.DPOTrainer(
        model=save_tiny(tmp_path / "model"),
        args=settings,
        train_dataset=pairs["train"],
        eval_dataset=pairs["test"],
        processing_class=tiny_tokenizer(),
    )
    assert len(trainer.train_dataset) == done.splits["train"]
    assert trainer.train().training_loss > 0


@pytest.mark.medium
def test_memory_grows_with_a_shard_and_not_with_the_dataset(tmp_path: Path) -> None:
    def peak(shards: int) -> int:
        """The smaller of two runs, as threads that earlier tests left behind allocate while this one measures."""
        highest = []
        for run in range(2):
            sizes = {"shards": shards, "questions": 6, "context_characters": 200_000}
            store, recipe, (plan, results) = made(tmp_path / f"{shards}-{run}", **sizes)
            gc.collect()
            tracemalloc.start()
            publish(plan, results, recipe, store)
            highest.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        return min(highest)

    peak(1)  # what is imported and cached the first time
    assert peak(6) < 1.4 * peak(2)


def test_a_repeated_context_is_stored_about_once(tmp_path: Path) -> None:
    sizes = {"shards": 1, "questions": 8, "context_characters": 200_000}
    store, _, _, done = published(tmp_path, **sizes, test_fraction=0.0)
    rows = rows_of(store, done, "pairs", "train")
    contexts = {row["context_id"] for row in rows}
    assert (len(rows), len(contexts)) == (7, 4)
    (path,) = _train_files(store, done)
    one_row = {row["context_id"]: row for row in rows}
    alone = sum(_compressed(one_row[context_id]) for context_id in contexts)
    assert store.size(f"{done.path}/{path}") < 1.3 * alone


def _compressed(row: dict[str, Any]) -> int:
    """Bytes of one prompt in a file of its own."""
    import pyarrow as pa

    return len(table_bytes(pa.table({"prompt": [row["prompt"][0]["content"]]})))


def _train_files(store: Store, done: Published) -> list[str]:
    files = read_manifest(store, done.manifest)["files"]
    return [file["path"] for file in files if file["path"].startswith("data/train/")]
