"""Activation offloading reaches every trainer around each pass, changes no number, and is refused without a GPU."""

from pathlib import Path

import pytest

from infra.errors import PrerequisiteError
from infra.recipe import Training
from tests.support.shared_pairs import TREES, double_precision, loss_and_gradients, make_trainer

pytestmark = pytest.mark.slow  # torch and the trainers take seconds to load

LOSSES = ["dpo", "orpo", "sft"]
MAKERS = [
    "trl.trainer.dpo_trainer.get_act_offloading_ctx_manager",
    "trl.trainer.sft_trainer.get_act_offloading_ctx_manager",
    "tasks.training.trl_seams.get_act_offloading_ctx_manager",
]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")


@pytest.mark.parametrize("offloaded", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
def test_each_pass_is_offloaded_if_wished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str, offloaded: bool
) -> None:
    entered: list[int] = []

    class Counted:
        def __enter__(self) -> None:
            entered.append(1)

        def __exit__(self, *error: object) -> None: ...

    for maker in MAKERS:
        monkeypatch.setattr(maker, lambda model: Counted())
    trainer = make_trainer(tmp_path, shared=False, loss=loss, offload_activations=offloaded, device_batch_size=1)
    rows = list(trainer.train_dataset)[: 1 if loss == "sft" else 3]
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1
    trainer.training_step(trainer.model, trainer.data_collator(rows))
    assert len(entered) == (len(rows) if offloaded else 0)


@pytest.mark.parametrize("shared", [False, True], ids=["stock", "shared"])
@pytest.mark.parametrize("loss", ["dpo", "orpo"])
def test_what_is_saved_elsewhere_for_the_backward_pass_gives_the_same_gradients(
    tmp_path: Path, loss: str, shared: bool
) -> None:
    import torch

    with double_precision():
        trainer = make_trainer(tmp_path, shared=shared, loss=loss, shapes=TREES, gradient_checkpointing=True)
        plain = loss_and_gradients(trainer)
        with torch.autograd.graph.save_on_cpu():
            moved = loss_and_gradients(trainer)
    assert moved[0] == plain[0]
    assert all(torch.equal(moved[1][name], gradient) for name, gradient in plain[1].items())


def test_without_a_gpu_it_is_refused() -> None:
    import torch

    from tasks.training.base import check_machine

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(PrerequisiteError, match="no CUDA GPU here; set it to false"):
        check_machine(Training(offload_activations=True))
