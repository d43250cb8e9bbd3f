"""Trackers of trainings: passed through to the trainer, and looked for before anything is paid."""

import os
from pathlib import Path

import pytest

from infra.errors import PrerequisiteError, RecipeError
from infra.recipe import RewardTraining, Training
from tasks.training.gate import gate
from tasks.training.run import trainer_arguments
from tasks.training.settings import RunConfig
from tasks.training.trackers import check_trackers
from tasks.training.trainable import check_trainable
from tests.support.small_build import small_recipe
from tests.support.tiny_model import pair_rows, tiny_tokenizer

VARIABLES = ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME", "TENSORBOARD_LOGGING_DIR", "TRACKIO_PROJECT")


def test_trackers_are_passed_through_with_a_name_and_places_that_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what is set here ends with the test
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    settings = Training.model_validate({"report_to": ["wandb", "tensorboard", "trackio"]})
    lengths = gate(pair_rows(1), tiny_tokenizer(), 2000)
    folder = tmp_path / "training" / "0123456789abcdef"
    arguments = trainer_arguments(RunConfig(settings, "base", "base", False, 0, lengths, str(folder), None))
    assert arguments["report_to"] == ["wandb", "tensorboard", "trackio"]
    assert (arguments["run_name"], arguments["project"]) == ("0123456789abcdef", "longmill")
    assert os.environ["WANDB_PROJECT"] == "mine"
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(folder / "tensorboard")


@pytest.mark.parametrize(("settings", "section"), [(Training, "training"), (RewardTraining, "reward_training")])
def test_a_tracker_that_is_missing_is_named_before_the_run(
    settings: type[Training], section: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "mlflow" else object())
    check_trackers(settings.model_validate({"report_to": ["wandb"]}))
    with pytest.raises(PrerequisiteError, match=rf"{section}\.report_to: the package mlflow is missing.*pip install"):
        check_trackers(settings.model_validate({"report_to": ["wandb", "mlflow"]}))


def test_a_run_that_trains_looks_for_its_trackers_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_recipe(folder, "http://127.0.0.1:9/v1", training={"report_to": ["mlflow"]})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PrerequisiteError, match="mlflow"):
        check_trainable(recipe, here=True)
    with pytest.raises(RecipeError, match="report_to"):
        small_recipe(folder, "http://127.0.0.1:9/v1", training={"report_to": ["all"]})
