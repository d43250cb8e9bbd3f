"""Arithmetic of steps, losses by name, and the job's identity."""

import pytest

from infra.errors import RecipeError
from infra.recipe import RewardTraining, Training
from tasks.training.losses import all_losses, find_loss
from tasks.training.settings import (
    accumulation,
    epochs_of,
    planned_steps,
    quarter_means,
    steps_argument,
    warmup_steps,
)


def _settings(**changes: object) -> Training:
    return Training.model_validate({"batch_size": 8, "device_batch_size": 2, **changes})


def test_a_batch_is_split_into_whole_passes() -> None:
    assert accumulation(_settings()) == 4
    assert accumulation(_settings(processes=2)) == 2
    with pytest.raises(RecipeError, match=r"batch_size = 8 is not a multiple.*2 x 3"):
        accumulation(_settings(processes=3))
    with pytest.raises(RecipeError, match=r"^reward_training\.batch_size = 3 is not a multiple"):
        accumulation(RewardTraining(batch_size=3, device_batch_size=2))


@pytest.mark.parametrize(
    ("rows", "changes", "steps"),
    [
        (8, {}, 1),
        (9, {}, 2),
        (100, {}, 13),
        (100, {"epochs": 2}, 26),
        (100, {"epochs": 0.5}, 7),
        (100, {"max_steps": 5}, 5),
        (100, {"max_steps": 800}, 13),  # a cap, and no target
        (148, {"max_steps": 800, "batch_size": 16}, 10),
        (10_000, {"max_steps": 800, "batch_size": 16}, 625),
        (10_000, {"max_steps": 400, "batch_size": 16}, 400),
        (100, {"processes": 2}, 13),
    ],
)
def test_steps_are_counted_as_the_trainer_counts_them(rows: int, changes: dict[str, object], steps: int) -> None:
    assert planned_steps(_settings(**changes), rows) == steps


def test_transformers_is_given_a_number_of_steps_only_where_it_ends_the_epochs() -> None:
    assert [steps_argument(_settings(max_steps=steps), 100) for steps in (12, 13, 14)] == [12, 13, -1]
    assert steps_argument(_settings(), 100) == -1


def test_steps_are_told_as_epochs() -> None:
    assert epochs_of(_settings(), 100, 13) == 1.0
    assert epochs_of(_settings(), 148, 19) == 1.0
    assert epochs_of(_settings(), 10_000, 400) == 0.32
    assert epochs_of(_settings(), 0, 0) == 0.0


def test_warm_up_leaves_a_step_that_learns() -> None:
    assert warmup_steps(_settings(warmup=0.05), 8) == 0  # one step in all
    assert warmup_steps(_settings(warmup=0.05), 100) == 1
    assert warmup_steps(_settings(warmup=1.0), 100) == 12
    assert warmup_steps(_settings(warmup=0.0), 100) == 0


def test_quarters_are_means_of_the_first_and_last_steps() -> None:
    assert quarter_means([8.0, 6.0, 1.0, 1.0, 1.0, 1.0, 4.0, 2.0]) == (7.0, 3.0)
    assert quarter_means([8.0]) == (8.0, 8.0)


def test_losses_are_found_by_name() -> None:
    assert list(all_losses()) == ["dpo", "longpo", "orpo", "sft"]
    with pytest.raises(RecipeError, match=r"'ppo'; there are: dpo, longpo, orpo, sft"):
        find_loss("ppo")
