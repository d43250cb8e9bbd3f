"""Guards: a loss that is not finite, a run in which nothing moved, and checkpoints that are whole."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from infra.errors import TrainingError
from infra.recipe import Training
from tasks.training.checkpoints import COMPLETE, last_checkpoint, read_progress, rewind
from tasks.training.gate import Lengths
from tasks.training.settings import RunConfig
from tasks.training.watch import ChangedTensors, Snapshot, check_finite, check_model_changed, step_record
from tests.support.tiny_model import tiny_model

MOVED = ChangedTensors(3, 3)


def _config(folder: Path) -> RunConfig:
    lengths = Lengths(2, 3, 4, 5, 6, 0, ((8, 2),), 2)
    return RunConfig(Training(), "base", "base", False, 0, lengths, str(folder), None)


def _steps(losses: list[float], gradient: float = 1.0) -> list[dict[str, Any]]:
    return [{"step": index, "loss": loss, "grad_norm": gradient} for index, loss in enumerate(losses, 1)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_or_gradient_that_is_not_finite_stops_the_run(value: float) -> None:
    with pytest.raises(TrainingError, match=r"loss of step 4 .*learning_rate"):
        check_finite(step_record(4, 9, {"loss": value, "grad_norm": 1.0}))
    with pytest.raises(TrainingError, match="grad_norm of step 4"):
        check_finite(step_record(4, 9, {"loss": 1.0, "grad_norm": value}))
    check_finite(step_record(4, 9, {"loss": 1.0, "grad_norm": 0.0}))


def test_a_run_in_which_nothing_moved_is_an_error() -> None:
    check_model_changed(_steps([3.0, 2.0, 2.5, 1.0]), MOVED)
    check_model_changed(_steps([3.0]), MOVED)
    with pytest.raises(TrainingError, match=r"none of 3 trained tensors changed.*first quarter 3, of the last 1"):
        check_model_changed(_steps([3.0, 2.0, 2.5, 1.0]), ChangedTensors(0, 3))
    with pytest.raises(TrainingError, match="gradient was zero"):
        check_model_changed(_steps([3.0, 2.0, 2.5, 1.0], gradient=0.0), MOVED)
    with pytest.raises(TrainingError, match=r"loss was 3\.0 at every step"):
        check_model_changed(_steps([3.0] * 4), MOVED)


def test_movement_counts_the_tensors_that_changed() -> None:
    import torch

    model = tiny_model(layers=1)
    before = Snapshot(model)
    assert before.compare(model).changed == 0
    with torch.no_grad():
        model.lm_head.weight += 0.5
    assert before.compare(model) == ChangedTensors(1, len(list(model.parameters())))


def test_only_whole_checkpoints_count_and_half_written_ones_go(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    for step, whole in ((5, True), (10, True), (15, False)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if whole:
            (folder / COMPLETE).touch()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert not (tmp_path / "checkpoint-15").exists()


def test_progress_after_the_checkpoint_is_forgotten(tmp_path: Path) -> None:
    config = _config(tmp_path)
    config.progress.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    assert [step["step"] for step in read_progress(config.progress)] == [1, 2, 3]
    rewind(dataclasses.replace(config, checkpoint="x/checkpoint-2"))
    assert config.progress.read_text() == '{"step": 1}\n{"step": 2}\n'
    rewind(config)
    assert config.progress.read_text() == ""


def test_a_configuration_survives_its_file(tmp_path: Path) -> None:
    config = _config(tmp_path)
    assert RunConfig.load(config.dump()) == config
