"""Every loss trains on exactly the rows and tokens that the gate passed, with the settings of the recipe."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest

from infra.errors import TrainingError
from infra.recipe import Training
from tasks.training.base import adapter_config, load_base
from tasks.training.gate import PairsFile, gate
from tasks.training.losses import LossSetup, all_losses, find_loss
from tasks.training.run import check_rows, trainer_arguments
from tasks.training.settings import RunConfig
from tests.support.tiny_model import pair_rows, save_tiny, tiny_tokenizer


def _made(folder: Path, **settings: Any) -> tuple[RunConfig, Any]:
    """A trainer as the subprocess makes it, and its configuration."""
    from datasets import Dataset

    tokenizer = tiny_tokenizer()
    # Longer than TRL's own limits of 512 and 1024, which would cut without a word.
    rows = [*pair_rows(3, prompt_characters=1100), *pair_rows(2, prompt_characters=20)]
    with PairsFile(folder / "pairs.arrow") as pairs:
        lengths = gate(rows, tokenizer, 2000, add=pairs.add)
    base = save_tiny(folder / "base")
    training = Training.model_validate({"dtype": "float32", "lora_rank": 4, "batch_size": 2, **settings})
    config = RunConfig(training, base, "base", False, 5, lengths, str(folder), None)
    setup = LossSetup(
        model=load_base(config),
        adapter=adapter_config(training),
        tokenizer=tokenizer,
        pairs=Dataset.from_file(str(config.pairs)),
        max_length=lengths.total_max,
        settings=training,
        arguments=trainer_arguments(config),
        callbacks=(),
    )
    return config, find_loss(training.loss).make_trainer(setup)


@pytest.mark.parametrize("loss", list(all_losses()))
def test_the_trainer_holds_every_row_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str) -> None:
    import torch

    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    config, trainer = _made(tmp_path, loss=loss)
    check_rows(config, trainer.train_dataset)
    assert trainer.args.max_length == config.lengths.total_max > 1024
    batches = list(trainer.get_train_dataloader())
    passes = batches if loss == "sft" else list(itertools.chain(*[batch["passes"] for batch in batches]))
    tokens = sum(int(batch["attention_mask"].sum()) for batch in passes)
    expected = 0
    for row in trainer.train_dataset:
        expected += len(row["prompt_ids"]) + len(row["answers"][0])
        if loss != "sft":
            expected += len(row["prompt_ids"]) + len(row["answers"][1])
    assert tokens == expected
    dropouts = {module.p for module in trainer.model.modules() if isinstance(module, torch.nn.Dropout)}
    assert dropouts == {0.05}  # TRL would silence the adapter's dropout


def test_lost_rows_and_tokens_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    config, trainer = _made(tmp_path, loss="orpo")
    with pytest.raises(TrainingError, match=r"holds 4 questions, 4 pairs .* passed 5 questions, 5 pairs"):
        check_rows(config, trainer.train_dataset.select(range(4)).flatten_indices())
    fewer = dataclasses.replace(config, lengths=dataclasses.replace(config.lengths, tokens=config.lengths.tokens + 1))
    with pytest.raises(TrainingError, match="cuts or drops"):
        check_rows(fewer, trainer.train_dataset)


def test_the_recipes_settings_reach_the_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    recipe = {
        "loss": "dpo",
        "beta": 0.15,
        "sft_weight": 0.1,
        "learning_rate": 3e-4,
        "schedule": "linear",
        "weight_decay": 0.2,
        "clip": 0.7,
        "epochs": 3.0,
        "batch_size": 4,
        "device_batch_size": 2,
        "save_steps": 9,
        "lora_alpha": 6,
        "lora_dropout": 0.2,
    }
    _, trainer = _made(tmp_path, **recipe)
    arguments = trainer.args
    assert (arguments.beta, trainer.pass_loss.sft_weight) == (0.15, 0.1)
    assert (arguments.learning_rate, arguments.lr_scheduler_type, arguments.weight_decay) == (3e-4, "linear", 0.2)
    assert (arguments.max_grad_norm, arguments.num_train_epochs, arguments.seed) == (0.7, 3.0, 5)
    assert (arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps) == (4, 1)
    assert (trainer.data_collator.questions_per_pass, trainer.data_collator.pack_tokens) == (2, None)
    assert (arguments.save_steps, arguments.report_to, arguments.logging_nan_inf_filter) == (9, [], False)
    adapter = trainer.model.peft_config["default"]
    assert (adapter.r, adapter.lora_alpha, adapter.lora_dropout) == (4, 6, 0.2)


def test_a_row_longer_than_the_models_window_is_refused(tmp_path: Path) -> None:
    lengths = gate(pair_rows(1, prompt_characters=500), tiny_tokenizer(), 2000)
    base = save_tiny(tmp_path / "base", window=256)
    config = RunConfig(Training(), base, "base", False, 0, lengths, str(tmp_path), None)
    with pytest.raises(TrainingError, match=r"longest row has \d+ tokens.*reads 256"):
        load_base(config)


def test_four_bit_training_and_more_processes_need_gpus() -> None:
    import torch

    from infra.errors import PrerequisiteError
    from tasks.training.base import check_machine

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(PrerequisiteError, match="qlora needs a CUDA GPU"):
        check_machine(Training(method="qlora"))
    with pytest.raises(PrerequisiteError, match="processes = 2 needs as many GPUs"):
        check_machine(Training(processes=2))
    check_machine(Training(processes=2, accelerate_config="fsdp.yaml"))
