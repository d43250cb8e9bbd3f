"""Whole training runs over questions of several pairs: the same loss at every step however they go through the model,
and the choice is told beside it."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from infra.recipe import Training
from infra.store import open_store
from tasks.training.job import TrainingJob, TrainingResult, train
from tests.support.tiny_model import publish_rows, question_rows, save_tiny

pytestmark = pytest.mark.slow

SETTINGS: dict[str, Any] = {
    "dtype": "float32",
    "lora_rank": 4,
    "lora_dropout": 0.0,  # its draws would differ
    "learning_rate": 1e-3,
    "batch_size": 4,
    "device_batch_size": 2,
    "epochs": 2,
}
WAYS: dict[str, dict[str, Any]] = {
    "shared": {"sharing": "auto"},
    "packed": {"pack_tokens": 2500},
    "apart": {"sharing": "off"},
}


def _train(folder: Path, **changes: Any) -> tuple[TrainingResult, Path]:
    base = folder / "base"
    if not base.exists():
        save_tiny(base, width=128, layers=2)
        publish_rows(folder / "mill", question_rows())
    store = open_store(str(folder / "mill"))
    settings = Training.model_validate({**SETTINGS, **changes})
    job = TrainingJob(store, "datasets/tiny/v1/manifest.json", settings, str(base), "main", folder / "work", seed=1)
    result = train(job)
    model = store.local_path(result.model)
    assert model is not None
    return result, model


@pytest.mark.parametrize(
    ("changes", "ways"),
    [({"loss": "dpo", "sft_weight": 0.1}, ("packed", "apart")), ({"loss": "orpo"}, ("shared", "apart"))],
    ids=["dpo", "orpo"],
)
def test_every_way_gives_the_same_loss_curve(tmp_path: Path, changes: dict[str, Any], ways: tuple[str, ...]) -> None:
    curves, results = {}, {}
    for name in ways:
        results[name], folder = _train(tmp_path, **changes, **WAYS[name])
        curves[name] = pq.read_table(folder / "metrics.parquet")
        card = (folder / "README.md").read_text()
        assert results[name].sharing in card and "on the 19 pairs of 10 questions of" in card
        assert json.loads((folder / "result.json").read_text())["sharing"] == results[name].sharing
    for name in curves.keys() - {"apart"}:
        assert min(curves[name].column("shared_prompt").to_pylist()) == pytest.approx(1.0)
    assert "shared_prompt" not in curves["apart"].column_names
    losses = {name: table.column("loss").to_pylist() for name, table in curves.items()}
    for name in ways:
        assert losses[name] == pytest.approx(losses["apart"], rel=2e-4)
    assert abs(losses["apart"][0] - losses["apart"][-1]) > 1e-3  # it learned
    for table in curves.values():
        assert table.column("questions").to_pylist() == [4, 4, 2, 4, 4, 2]
        assert sum(table.column("pairs").to_pylist()) == 2 * 19
    assert {(result.rows, result.pairs, result.steps) for result in results.values()} == {(10, 19, 6)}
    assert "is off" in results["apart"].sharing and "10 of 10 questions" in results[ways[0]].sharing
    assert ("a pass of up to 2,500 tokens" in results[ways[0]].sharing) == ("packed" in ways)
