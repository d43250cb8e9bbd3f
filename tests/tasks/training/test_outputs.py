"""What stands beside the weights: no date, no folder of this machine, nothing lost on a dark page."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.errors import TrainingError
from infra.recipe import Training
from infra.store import open_store
from tasks.training.card import model_card
from tasks.training.gate import Lengths
from tasks.training.outputs import merge_adapter, metrics_table, training_plot
from tasks.training.published import TrainSplit
from tasks.training.settings import RunConfig
from tests.support.tiny_model import save_tiny, tiny_model

STORE = open_store("mill")
STEPS: list[dict[str, Any]] = [
    {"step": step, "total_steps": 40, "loss": 5.0 - step / 10, "lr": 1e-4, "grad_norm": 0.5, "margin": step / 100}
    for step in range(1, 41)
]
WRITTEN: dict[str, Any] = {"steps": 40, "first_loss": 4.5, "last_loss": 1.5, "tensors_changed": 14, "tensors": 14}
WRITTEN |= {"sharing": "the shared prompt is read once for 9 of 9 pairs"}


def _card(licence: str | None = "cc-by-4.0", **changes: Any) -> str:
    settings = Training.model_validate({"accelerate_config": "/home/somebody/fsdp.yaml", **changes})
    lengths = Lengths(9, 30, 4, 34, 300, 0, ((32, 4), (64, 5)), 9)
    config = RunConfig(settings, "/secret/place/base", "base", False, 3, lengths, "/secret/work", None)
    return model_card(config, TrainSplit(STORE, "tiny", licence, "ab" * 32, ()), "main", WRITTEN, STEPS)


def test_the_card_states_data_base_settings_and_loss_and_no_folder() -> None:
    card = _card()
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["base_model"] == "base"
    assert metadata["datasets"] == ["tiny"]
    assert (metadata["library_name"], metadata["license"]) == ("peft", "cc-by-4.0")
    assert "- the shared prompt is read once for 9 of 9 pairs" in card
    assert "9 pairs" in card and "| learning_rate | `5e-05` |" in card and "| 64 | 5 |" in card
    assert "| 40 | 1 | 0.4 | 0.5 | 0.0001 |" in card  # the last step of the table
    assert "/secret" not in card and "/home" not in card


def test_the_card_says_what_ended_the_steps() -> None:
    assert "optimiser steps: 40, 20 epochs of 9 questions\n" in _card()
    assert "40, 20 epochs of 9 questions; training.max_steps ended it, training.epochs is 30" in _card(
        epochs=30, max_steps=40
    )
    assert "no row was cut, none dropped" in _card()


def test_a_licence_is_never_invented() -> None:
    assert "license" not in yaml.safe_load(_card(None).split("---")[1])


def test_a_full_model_is_a_transformers_model() -> None:
    assert yaml.safe_load(_card(method="full").split("---")[1])["library_name"] == "transformers"


def test_every_number_of_every_step_is_in_the_metrics() -> None:
    table = metrics_table([*STEPS, {"step": 41, "total_steps": 41, "loss": 1.0, "extra": 2.0}])
    assert table.num_rows == 41
    assert table.column_names == ["step", "total_steps", "extra", "grad_norm", "loss", "lr", "margin"]
    assert table.column("loss").to_pylist()[:2] == [4.9, 4.8]
    assert table.column("margin").to_pylist()[-1] is None


@pytest.mark.medium
def test_the_plot_is_opaque_and_the_same_every_time(tmp_path: Path) -> None:
    from matplotlib import image

    first = training_plot(STEPS, "orpo")
    (tmp_path / "plot.png").write_bytes(first)
    pixels = image.imread(tmp_path / "plot.png")
    assert pixels[0, 0].tolist()[:3] == [1.0, 1.0, 1.0]
    assert pixels.shape[2] == 3 or bool((pixels[:, :, 3] == 1.0).all())
    assert first == training_plot(STEPS, "orpo")


@pytest.mark.slow
def test_a_merged_model_answers_as_base_and_adapter_do(tmp_path: Path) -> None:
    import json

    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = save_tiny(tmp_path / "base")
    torch.manual_seed(1)
    options: dict[str, Any] = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False}
    adapted = get_peft_model(tiny_model(), LoraConfig(task_type="CAUSAL_LM", **options)).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    job = {"base": base, "trust_remote_code": False, "settings": {"dtype": "float32"}}
    (tmp_path / "adapter/job.json").write_text(json.dumps(job))
    merged = merge_adapter(tmp_path / "adapter", tmp_path / "merged")
    ids = torch.tensor([[1, 20, 30, 40]])
    with torch.no_grad():
        expected = adapted(ids).logits
        logits = AutoModelForCausalLM.from_pretrained(merged)(ids).logits
        plain = AutoModelForCausalLM.from_pretrained(base)(ids).logits
    assert torch.allclose(logits, expected, atol=1e-5)
    assert not torch.allclose(plain, expected, atol=1e-2)
    assert (merged / "tokenizer.json").exists()
    assert list(merged.parent.glob(".*")) == []
    assert merge_adapter(tmp_path / "nowhere", merged) == merged


def test_only_what_was_trained_here_can_be_merged(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no job\.json"):
        merge_adapter(tmp_path, tmp_path / "merged")
