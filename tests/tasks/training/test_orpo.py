"""ORPO's loss against a formula written out by hand, and against TRL's own."""

import importlib
import math
from types import SimpleNamespace
from typing import Any

import pytest

IDS = [[5, 6, 7, 8, 0], [5, 6, 9, 3, 4]]  # chosen: prompt 5 6, answer 7 8; rejected: prompt 5 6, answer 9 3 4
ATTENTION = [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
ANSWER = [[0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
WORDS = 10


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    return importlib.import_module("tasks.training.orpo_trainer")


def _fixed_model(asked: dict[str, int]) -> Any:
    """Logits that depend on position and row alone, and a note of how many positions were asked for."""
    import torch

    logits = torch.sin(torch.arange(2 * 5 * WORDS, dtype=torch.float32).reshape(2, 5, WORDS) * 1.7)

    def forward(ids: Any, logits_to_keep: int = 0, **_: Any) -> Any:
        asked["positions"] = logits_to_keep or ids.shape[1]
        return SimpleNamespace(logits=logits[:, -logits_to_keep:] if logits_to_keep else logits)

    return forward, logits


def _trainer(trainers: Any, kind: str) -> Any:
    import torch

    trainer = trainers.PairsORPOTrainer.__new__(trainers.PairsORPOTrainer)
    trainer.nll_over, trainer.aux_loss_enabled, trainer.beta = kind, False, 0.3
    gather = lambda value: value  # noqa: E731
    trainer.accelerator = SimpleNamespace(device=torch.device("cpu"), gather_for_metrics=gather)
    return trainer


def _batch() -> Any:
    import torch

    return {
        "input_ids": torch.tensor(IDS),
        "attention_mask": torch.tensor(ATTENTION),
        "completion_mask": torch.tensor(ANSWER),
    }


def _log_probability(logits: Any, row: int, position: int) -> float:
    """log softmax of the token at `position`, from the logits one place before it, by hand."""
    scores = [float(value) for value in logits[row, position - 1]]
    return scores[IDS[row][position]] - math.log(sum(math.exp(score) for score in scores))


def _log_odds(log_p: float) -> float:
    return log_p - math.log(1 - math.exp(log_p))


def test_the_loss_is_the_papers_formula_with_the_likelihood_of_the_answer_alone(trainers: Any) -> None:
    asked: dict[str, int] = {}
    model, logits = _fixed_model(asked)
    loss, metrics = _trainer(trainers, "answer").get_batch_loss_metrics(model, _batch())
    chosen = (_log_probability(logits, 0, 2) + _log_probability(logits, 0, 3)) / 2
    rejected = sum(_log_probability(logits, 1, position) for position in (2, 3, 4)) / 3
    ratio = _log_odds(chosen) - _log_odds(rejected)
    assert float(loss) == pytest.approx(-chosen + 0.3 * math.log(1 + math.exp(-ratio)), abs=1e-5)
    assert metrics["nll_loss"] == pytest.approx(-chosen, abs=1e-5)
    assert asked["positions"] == 4  # those that predict tokens 2, 3 and 4, and the last: none for the prompt


def test_with_all_the_loss_is_trls_own(trainers: Any) -> None:
    import torch

    model, logits = _fixed_model({})
    trainer = _trainer(trainers, "all")
    loss, _ = trainer.get_batch_loss_metrics(model, _batch())
    stock_class = type(trainer).__mro__[1]
    stock = stock_class.__new__(stock_class)
    stock.__dict__.update(trainer.__dict__, is_encoder_decoder=False, padding_value=0)
    labels = torch.tensor(IDS).masked_fill(torch.tensor(ANSWER) == 0, -100)
    sides = {}
    for row, side in enumerate(("chosen", "rejected")):
        sides[f"{side}_input_ids"] = torch.tensor(IDS[row : row + 1])
        sides[f"{side}_attention_mask"] = torch.tensor(ATTENTION[row : row + 1])
        sides[f"{side}_labels"] = labels[row : row + 1]
    expected, _ = stock.get_batch_loss_metrics(model, sides)
    assert float(loss) == pytest.approx(float(expected), abs=1e-6)
    nll = -sum(_log_probability(logits, 0, position) for position in (1, 2, 3)) / 3
    answers, _ = _trainer(trainers, "answer").get_batch_loss_metrics(model, _batch())
    chosen = (_log_probability(logits, 0, 2) + _log_probability(logits, 0, 3)) / 2
    assert float(loss) - float(answers) == pytest.approx(nll + chosen, abs=1e-5)


def test_the_loss_does_not_depend_on_how_many_pairs_go_at_once(trainers: Any) -> None:
    import torch
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    def model(ids: Any, logits_to_keep: int, **_: Any) -> Any:
        places = torch.arange(ids.shape[1])[None, :, None]
        logits = torch.sin(ids[:, :, None] * 1.3 + places * 0.7 + torch.arange(WORDS) * 2.1)
        return SimpleNamespace(logits=logits[:, -logits_to_keep:])

    pairs = [
        {"prompt_ids": [5, 6], "chosen_ids": [7, 8, 9, 3], "rejected_ids": [4]},
        {"prompt_ids": [5, 6, 7, 8, 9], "chosen_ids": [3], "rejected_ids": [4, 6]},
    ]
    collate, trainer = DataCollatorForPreference(0), _trainer(trainers, "answer")
    together, _ = trainer.get_batch_loss_metrics(model, collate(pairs))
    alone = [float(trainer.get_batch_loss_metrics(model, collate([pair]))[0]) for pair in pairs]
    assert float(together) == pytest.approx(sum(alone) / 2, abs=1e-6)
    assert abs(alone[0] - alone[1]) > 0.1
