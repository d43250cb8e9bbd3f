"""DPO with the likelihood term is the formula, worked out by hand from plain logits, and its reference is the base."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from infra.recipe import Training
from tasks.training.base import adapter_config, load_base
from tasks.training.gate import PairsFile, gate
from tasks.training.losses import LossSetup, find_loss
from tasks.training.run import trainer_arguments
from tasks.training.settings import RunConfig
from tests.support.tiny_model import pair_row, save_tiny, tiny_tokenizer

ROWS = [
    pair_row(0, "which river?", "the Elbe, and the Saale joins it near Barby", "no"),
    pair_row(1, "who?", "Ruth", "it was the second of the three sisters, I think"),
]
BETA, WEIGHT = 0.15, 0.1
Pairs = list[tuple[float, float, int]]


def _trainer(folder: Path, **changes: Any) -> Any:
    """A DPO trainer whose adapter is not the one that changes nothing, without dropout."""
    import torch
    from datasets import Dataset

    tokenizer = tiny_tokenizer()
    with PairsFile(folder / "pairs.arrow") as pairs:
        lengths = gate(ROWS, tokenizer, 200, add=pairs.add)
    settings = Training.model_validate(
        {
            "loss": "dpo",
            "beta": BETA,
            "sft_weight": WEIGHT,
            "dtype": "float32",
            "lora_rank": 4,
            "lora_dropout": 0.0,
            "batch_size": 2,
            "gradient_checkpointing": False,
            **changes,
        }
    )
    config = RunConfig(settings, save_tiny(folder / "base"), "base", False, 5, lengths, str(folder), None)
    setup = LossSetup(
        model=load_base(config),
        adapter=adapter_config(settings),
        tokenizer=tokenizer,
        pairs=Dataset.from_file(str(config.pairs)),
        max_length=lengths.total_max,
        settings=settings,
        arguments=trainer_arguments(config),
        callbacks=(),
    )
    trainer = find_loss("dpo").make_trainer(setup)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            if ".lora_B." in name or settings.method == "full":
                weight.add_(torch.randn_like(weight) * 0.05)
    return trainer


def _step(trainer: Any, rows: list[int], questions_per_pass: int = 1) -> Any:
    collate = dataclasses.replace(trainer.data_collator, questions_per_pass=questions_per_pass)
    return collate([trainer.train_dataset[row] for row in rows])


def _loss(trainer: Any, rows: list[int], questions_per_pass: int = 1) -> Any:
    return sum(
        trainer.compute_loss(trainer.model, batch) for batch in _step(trainer, rows, questions_per_pass)["passes"]
    )


def _log_p(model: Any, prompt: list[int], answer: list[int]) -> list[float]:
    """log p of each token of an answer, one sequence at a time, by a plain softmax over the model's logits."""
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([prompt + answer])).logits[0].double()
    log_p = torch.log_softmax(logits, dim=-1)
    return [float(log_p[len(prompt) - 1 + place, token]) for place, token in enumerate(answer)]


def _by_hand(trainer: Any, rows: list[int]) -> tuple[float, float, float]:
    """The mean DPO term of rows; the NLL as a mean of each answer's mean, and as a mean over all chosen tokens."""
    import math

    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(trainer.model.config.name_or_path).eval()
    dpo, chosen = [], []
    for row in (trainer.train_dataset[place] for place in rows):
        gain = {}
        for side in (0, 1):
            log_p = _log_p(trainer.model, row["prompt_ids"], row["answers"][side])
            gain[side] = sum(log_p) - sum(_log_p(base, row["prompt_ids"], row["answers"][side]))
            if side == 0:
                chosen.append(log_p)
        margin = BETA * (gain[0] - gain[1])
        dpo.append(math.log1p(math.exp(-margin)))
    over_tokens = -sum(map(sum, chosen)) / sum(map(len, chosen))
    over_answers = -sum(sum(log_p) / len(log_p) for log_p in chosen) / len(chosen)
    return sum(dpo) / len(dpo), over_answers, over_tokens


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return _trainer(tmp_path_factory.mktemp("dpo"))


def test_the_loss_is_the_dpo_term_plus_the_weighted_likelihood_of_the_chosen(trainer: Any) -> None:
    assert (trainer.pass_loss.sft_weight, trainer.beta) == (WEIGHT, BETA)
    trainer.model.eval()
    for rows in ([0], [1]):
        dpo, nll, same = _by_hand(trainer, rows)
        assert nll == pytest.approx(same)
        assert abs(dpo - 0.6931) > 1e-3  # the model is not the reference
        loss = _loss(trainer, rows)
        assert float(loss.detach()) == pytest.approx(dpo + WEIGHT * nll, rel=1e-5)


@pytest.mark.parametrize("questions_per_pass", [1, 2])
def test_a_steps_loss_is_the_mean_of_its_pairs_however_many_go_at_once(trainer: Any, questions_per_pass: int) -> None:
    trainer.model.eval()
    dpo, over_answers, over_tokens = _by_hand(trainer, [0, 1])
    assert abs(over_tokens - over_answers) > 1e-3  # TRL's mean over all tokens of a pass is another
    assert len(_step(trainer, [0, 1], questions_per_pass)["passes"]) == 2 // questions_per_pass
    assert float(_loss(trainer, [0, 1], questions_per_pass).detach()) == pytest.approx(
        dpo + WEIGHT * over_answers, rel=1e-5
    )


def test_a_step_gathers_the_gradients_and_numbers_of_its_passes(trainer: Any) -> None:
    import torch

    trainer.current_gradient_accumulation_steps = 1
    weight = next(parameter for name, parameter in trainer.model.named_parameters() if ".lora_B." in name)
    gradients, logged = [], []
    for questions_per_pass in (1, 2):
        trainer.model.zero_grad()
        loss = trainer.training_step(trainer.model, _step(trainer, [0, 1], questions_per_pass))
        logs = {"loss": float(loss)}
        trainer.log(logs)
        gradients.append(weight.grad.clone())
        logged.append(logs)
    assert float(gradients[0].abs().max()) > 1e-6
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-5)
    assert logged[0] == pytest.approx(logged[1], rel=1e-3)
    assert (logged[0]["questions"], logged[0]["pairs"]) == (2, 2)
    assert logged[0]["rewards/margins"] == pytest.approx(logged[0]["rewards/chosen"] - logged[0]["rewards/rejected"])


def test_without_a_weight_it_is_plain_dpo(tmp_path: Path) -> None:
    plain = _trainer(tmp_path, sft_weight=0.0)
    plain.model.eval()
    loss = _loss(plain, [0])
    assert float(loss.detach()) == pytest.approx(_by_hand(plain, [0])[0], rel=1e-5)


def test_when_all_weights_are_trained_the_reference_is_a_copy_of_the_base(tmp_path: Path) -> None:
    full = _trainer(tmp_path, method="full")
    full.model.eval()
    dpo, nll, _ = _by_hand(full, [1])
    assert abs(dpo - 0.6931) > 1e-3
    loss = _loss(full, [1])
    assert float(loss.detach()) == pytest.approx(dpo + WEIGHT * nll, rel=1e-5)
