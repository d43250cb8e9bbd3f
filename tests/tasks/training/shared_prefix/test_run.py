"""Whole training runs with and without sharing: the same loss at every step, and the choice is told beside it."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from infra.recipe import Training
from infra.store import open_store
from tasks.training.job import TrainingJob, train
from tests.support.tiny_model import pair_rows, publish_rows, save_tiny

SETTINGS: dict[str, Any] = {
    "dtype": "float32",
    "lora_rank": 4,
    "lora_dropout": 0.0,  # its draws would differ
    "learning_rate": 1e-3,
    "batch_size": 4,
    "device_batch_size": 2,
    "epochs": 2,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"loss": "dpo", "sft_weight": 0.1}, {"loss": "orpo"}],
    ids=["dpo", "orpo"],
)
def test_sharing_gives_the_same_loss_curve(tmp_path: Path, changes: dict[str, Any]) -> None:
    base = save_tiny(tmp_path / "base", width=128, layers=2)
    manifest = publish_rows(tmp_path / "mill", pair_rows(8, prompt_characters=900))
    curves, results = {}, {}
    for sharing in ("auto", "off"):
        settings = Training.model_validate({**SETTINGS, **changes, "sharing": sharing})
        store = open_store(str(tmp_path / "mill"))
        result = train(TrainingJob(store, manifest, settings, base, "main", tmp_path / "work", seed=1))
        folder = store.local(result.model)
        assert folder is not None
        curves[sharing] = pq.read_table(folder / "metrics.parquet")
        results[sharing] = result
        assert result.sharing in (folder / "README.md").read_text()
        assert json.loads((folder / "result.json").read_text())["sharing"] == result.sharing
    assert set(curves["auto"].column("shared_prompt").to_pylist()) == {1.0}
    assert "shared_prompt" not in curves["off"].column_names
    losses = {name: table.column("loss").to_pylist() for name, table in curves.items()}
    assert losses["auto"] == pytest.approx(losses["off"], rel=2e-4)
    assert abs(losses["off"][0] - losses["off"][-1]) > 1e-3  # it learned
    assert "is off" in results["off"].sharing and "8 of 8 pairs" in results["auto"].sharing
