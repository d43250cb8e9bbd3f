"""A job on others' pairs: the same training as on Longmill's own, and what it says of the data."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from infra.errors import BalanceError, TrainingError
from infra.recipe import Training
from infra.store import open_store
from tasks.training.external import PairSource, read_external_pairs
from tasks.training.job import TrainingJob, job_id, stored_training, train
from tasks.training.settings import RunConfig
from tests.support.killing import kill_at
from tests.support.tiny_model import save_tiny


def _rows(count: int) -> list[dict[str, Any]]:
    return [
        {"prompt": f"{number}? " + "word " * 9, "chosen": f"it is {number}", "rejected": "no"}
        for number in range(count)
    ]


def _job(folder: Path, rows: list[Any], window: int = 2048, **changes: Any) -> TrainingJob:
    if not (folder / "base").exists():
        save_tiny(folder / "base", window=window)
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    quick: dict[str, Any] = {"loss": "dpo", "dtype": "float32", "lora_rank": 4, "batch_size": 2, "learning_rate": 1e-3}
    settings = Training.model_validate({**quick, "gradient_checkpointing": False, **changes})
    source = PairSource(str(path), licence="apache-2.0")
    store = open_store(str(folder / "mill"))
    return TrainingJob(store, "", settings, str(folder / "base"), "main", folder / "work", seed=1, pairs=source)


def _launched(job: TrainingJob, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """The configuration that the subprocess would get."""
    configs: list[RunConfig] = []

    def launch(config: RunConfig, **_: Any) -> None:
        configs.append(config)
        raise TrainingError("launched")

    monkeypatch.setattr("tasks.training.job.launch", launch)
    with pytest.raises(TrainingError, match="launched"):
        train(job)
    return configs[0]


def test_rows_longer_than_the_models_window_are_dropped_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*_rows(3), {"prompt": "word " * 30, "chosen": "a", "rejected": "b"}]
    lengths = _launched(_job(tmp_path, rows, window=128), monkeypatch).lengths
    assert (lengths.pairs, lengths.dropped_pairs) == (3, 1)
    with pytest.raises(TrainingError, match=r"longer than 128 tokens, and training\.over_length is stop"):
        train(dataclasses.replace(_job(tmp_path, rows, over_length="stop"), folder=tmp_path / "other"))


def test_short_pairs_are_mixed_in_and_are_no_rows_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = tmp_path / "short.jsonl"
    short.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}))
    config = _launched(_job(tmp_path, _rows(4), mix={"source": str(short), "ratio": 0.5}), monkeypatch)
    assert config.mix is not None
    assert (config.lengths.pairs, config.mix.rows) == (6, 2)


@pytest.mark.parametrize(("loss", "questions"), [("dpo", 3), ("sft", 4)])
def test_sft_reads_the_chosen_answer_of_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str, questions: int
) -> None:
    rows = _rows(3)
    rows.insert(1, {**rows[0], "chosen": "another answer"})
    lengths = _launched(_job(tmp_path, rows, loss=loss), monkeypatch).lengths
    assert (lengths.rows, lengths.pairs) == (questions, 4)


def test_a_row_that_is_neither_trained_on_nor_dropped_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _job(tmp_path, _rows(4))
    monkeypatch.setattr("tasks.training.job.launch", None)

    def one_row_too_many(source: PairSource, grouped: bool) -> Any:
        return dataclasses.replace(read_external_pairs(source, grouped), source_rows=5)

    monkeypatch.setattr("tasks.training.job.read_external_pairs", one_row_too_many)
    with pytest.raises(BalanceError, match=r"has 5 rows, but 4 pairs passed and 0 rows were dropped"):
        train(job)


def test_the_id_is_of_the_content_and_of_nothing_else_of_the_data(tmp_path: Path) -> None:
    job = _job(tmp_path, _rows(4))
    assert job.pairs is not None
    same = job_id(job, read_external_pairs(job.pairs), None)
    moved = dataclasses.replace(
        job.pairs, source=str(Path(job.pairs.source).rename(tmp_path / "moved.jsonl")), licence="mit"
    )
    assert job_id(job, read_external_pairs(moved), None) == same
    other = _job(tmp_path, _rows(5))
    assert other.pairs is not None
    assert job_id(other, read_external_pairs(other.pairs), None) != same


@pytest.mark.slow
def test_a_killed_training_resumes_and_its_model_names_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*_rows(8), _rows(1)[0], {"prompt": "a", "chosen": "b", "rejected": "b"}]
    job = _job(tmp_path, [*rows, {"prompt": "<bos>a", "chosen": "b", "rejected": "c"}], epochs=5, save_steps=4)
    with pytest.raises(TrainingError, match=r"was killed.*the same command again"):
        train(job, on_step=kill_at(6))
    steps: list[int] = []
    result = train(job, on_step=lambda step: steps.append(step["step"]))
    assert steps == list(range(1, 21))
    assert (result.rows, result.pairs, result.source_rows) == (8, 8, 11)
    assert result.dropped == {"duplicate": 1, "rendered_before": 1, "same_text": 1}
    assert "read once for 8 of 8 questions" in result.sharing
    folder = tmp_path / "mill" / result.model
    assert folder.parts[-2] == "pairs" and (folder / "training.png").exists() and (folder / "metrics.parquet").exists()
    described = json.loads((folder / "job.json").read_text())
    assert described["manifest"] is None and described["rows"] == {"long": 8, "short": 0}
    assert described["data"]["source"] == "pairs.jsonl" and described["data"]["rows"] == 11
    assert described["data"]["drops"] == result.dropped
    card = (folder / "README.md").read_text()
    assert "license: apache-2.0" in card and "on the 8 pairs of `pairs`" in card
    assert "Of its 11 rows 3 were dropped: 1 duplicate, 1 rendered_before, 1 same_text." in card
    assert described["data"]["content"] in card and str(tmp_path) not in card
    monkeypatch.setattr("tasks.training.job.launch", None)
    assert train(job) == stored_training(job) == result
