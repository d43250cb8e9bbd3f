"""Kept reference log-probabilities are the live ones, are paid for once, and belong to rows, model and format."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from infra.errors import TrainingError
from infra.recipe import Training
from infra.store import open_store
from tasks.training.gate import Lengths
from tasks.training.job import TrainingJob, train
from tasks.training.reference import fetch_reference, read_reference, reference_path, store_reference
from tasks.training.settings import RunConfig, precomputes_reference
from tests.support.shared_pairs import TREES, double_precision, loss_and_gradients, make_trainer
from tests.support.tiny_model import pair_rows, publish_rows, save_tiny

PLACE = "references/0.parquet"


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """One thread: more of them wait for each other over tiny matrices."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("shared", [False, True], ids=["stock", "shared"])
@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("batches", [{}, {"device_batch_size": 3}, {"pack_tokens": 60}], ids=["one", "many", "packed"])
def test_kept_is_live_in_loss_and_gradients(tmp_path: Path, method: str, shared: bool, batches: dict[str, int]) -> None:
    (tmp_path / "reference.jsonl").touch()
    settings = {"shared": shared, "method": method, "loss": "dpo", "sft_weight": 0.1, "shapes": TREES, **batches}
    with double_precision():
        live = loss_and_gradients(make_trainer(tmp_path, **settings))
        trainer = make_trainer(tmp_path, reference=tmp_path / "reference.jsonl", **settings)
        computed_before = loss_and_gradients(trainer)
    assert trainer.ref_model is None
    assert computed_before[0] == pytest.approx(live[0], rel=1e-9)
    assert abs(live[2]["rewards/margins"]) > 1e-3  # the reference is not the model
    for name, gradient in live[1].items():
        assert float((computed_before[1][name] - gradient).abs().max()) <= 1e-9 * max(1.0, float(gradient.abs().max()))
    assert computed_before[2] == pytest.approx(live[2], rel=1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("_one_thread")
def test_computing_goes_on_where_it_stopped_and_reads_a_shared_prompt_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.llama.modeling_llama import LlamaModel

    read: list[int] = []
    stock = LlamaModel.forward

    def counted(self: Any, input_ids: Any = None, **named: Any) -> Any:
        read.append(input_ids.numel())
        return stock(self, input_ids=input_ids, **named)

    monkeypatch.setattr(LlamaModel, "forward", counted)
    file = tmp_path / "reference.jsonl"
    options = {"loss": "dpo", "shared": True, "lora_dropout": 0.5, "shapes": TREES, "device_batch_size": 3}
    file.touch()
    trainer = make_trainer(tmp_path, reference=file, **options)
    assert read == [prompt + sum(answers) + len(answers) - 1 for prompt, answers, _ in TREES]
    whole = read_reference(file)
    assert list(trainer.train_dataset["reference"]) == whole
    config = _config(tmp_path)
    file.write_text(file.read_text()[:-3])  # killed while it wrote its last line
    fetch_reference(open_store(str(tmp_path / "mill")), config)
    read.clear()
    make_trainer(tmp_path, reference=file, **options)
    assert read == [14 + 1 + 1 + 5 + 1 + 2]
    assert read_reference(file) == whole
    read.clear()
    make_trainer(tmp_path, reference=file, **options)
    assert read == []


def _config(folder: Path, rows: int = 3, reference: str | None = PLACE) -> RunConfig:
    return RunConfig(
        Training(), "base", "base", False, 0, Lengths(rows, 1, 1, 2, 3, 0, (), rows), str(folder), None, None, reference
    )


def test_what_is_whole_goes_to_the_store_and_comes_back_to_the_digit(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "mill"))
    rows = [[-1 / 3, -2e-17], [-301.25, -1.1], [0.0, -5.5]]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    config = _config(tmp_path / "one")
    config.reference_rows.write_text(json.dumps(rows[:2]) + "\n")
    store_reference(store, config)
    assert not store.exists(PLACE)
    config.reference_rows.write_text(json.dumps(rows[:2]) + "\n" + json.dumps(rows[2:]) + "\n")
    store_reference(store, config)
    other = _config(tmp_path / "two")
    fetch_reference(store, other)
    assert read_reference(other.reference_rows) == rows
    with pytest.raises(TrainingError, match=r"has 3 questions, there are 4 to train on; remove"):
        fetch_reference(store, _config(tmp_path / "two", rows=4))


def test_live_runs_touch_nothing(tmp_path: Path) -> None:
    store, config = open_store(str(tmp_path / "mill")), _config(tmp_path, reference=None)
    fetch_reference(store, config)
    store_reference(store, config)
    assert list(tmp_path.iterdir()) == []


def test_a_sum_that_is_not_a_number_is_named(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "mill"))
    store.write_table(PLACE, pa.table({"log_probs": [[0.0, 0.0], [1.0, float("nan")], [2.0, 0.0]]}))
    with pytest.raises(TrainingError, match=r"of question 1 are 1\.0, nan"):
        fetch_reference(store, _config(tmp_path))


def test_the_place_is_that_of_rows_model_and_format_and_of_nothing_else(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.arrow"
    pairs.write_bytes(b"rows")

    def place(base: str = "base", revision: str = "main", **settings: Any) -> str:
        return reference_path(pairs, base, revision, Training.model_validate({"loss": "dpo", **settings}))

    same = place()
    assert place(beta=0.3, learning_rate=1e-6, epochs=3, sft_weight=0.1, lora_rank=8, batch_size=16) == same
    others = [place("other"), place(revision="v2"), place(dtype="float32"), place(method="full"), place(sharing="off")]
    pairs.write_bytes(b"others")
    others.append(place())
    assert len({same, *others}) == 7


def test_auto_keeps_unless_rows_are_left_out() -> None:
    def keeps(rows: int, **settings: Any) -> bool:
        return precomputes_reference(Training.model_validate({"batch_size": 4, **settings}), rows)

    assert keeps(10) and keeps(10, epochs=3) and keeps(8, max_steps=2)
    assert not keeps(10, max_steps=2) and not keeps(100, epochs=0.5)
    assert keeps(10, max_steps=1, reference="kept") and not keeps(10, reference="live")


@pytest.mark.slow
def test_a_second_run_computes_none_and_trains_the_same(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    settings = Training.model_validate(
        {"loss": "dpo", "dtype": "float32", "lora_rank": 4, "lora_dropout": 0.3, "learning_rate": 1e-3, "batch_size": 2}
    )
    weights, progress = [], []
    for name in ("first", "second"):
        store = open_store(str(tmp_path / name))
        manifest = publish_rows(tmp_path / name, pair_rows(4))
        calls: list[tuple[int, int]] = []
        job = TrainingJob(store, manifest, settings, base, "main", tmp_path / f"work-{name}", seed=1)
        result = train(job, on_reference=lambda rows, of, calls=calls: calls.append((rows, of)))
        weights.append(store.read(f"{result.model}/adapter_model.safetensors"))
        progress.append(calls)
        if name == "first":
            (file,) = store.list("references")
            shutil.copytree(tmp_path / "first/references", tmp_path / "second/references")
            assert store.read_table(file).num_rows == 4
            assert json.loads(store.read(f"{result.model}/job.json"))["reference"] == file
    assert weights[0] == weights[1]
    assert progress == [[(1, 4), (2, 4), (3, 4), (4, 4)], [(4, 4)]]
    assert "those of 4 of 4 questions are known" in next((tmp_path / "work-second").rglob("train.log")).read_text()


@pytest.mark.slow
def test_a_run_that_fails_after_it_keeps_what_it_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: RunConfig, **_: Any) -> None:
        config.reference_rows.write_text(json.dumps([[-1.0, -2.0]] * 2) + "\n")
        raise TrainingError("out of memory")

    monkeypatch.setattr("tasks.training.job.launch", fail)
    store, base = open_store(str(tmp_path / "mill")), save_tiny(tmp_path / "base")
    manifest = publish_rows(tmp_path / "mill", pair_rows(2))
    settings = Training.model_validate({"loss": "dpo", "batch_size": 2})
    with pytest.raises(TrainingError, match="out of memory"):
        train(TrainingJob(store, manifest, settings, base, "main", tmp_path / "work"))
    (file,) = store.list("references")
    assert store.read_table(file).column("log_probs").to_pylist() == [[-1.0, -2.0]] * 2
