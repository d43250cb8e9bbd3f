"""The trainer of a reward model, and its two losses, over the logits of a pass's answers.

Pairwise is TRL's RewardTrainer loss: -log sigmoid(better - worse - margin), and its centring term. TRL's own trainer
reads each answer with its prompt in a row of its own, so the loss is made here over the shared forward; a test
compares both. Regression is the squared error of each head's logit, in units of the spread of its scores.
Steps, logging and processes are those of the policy's trainers (`trl_seams.StepTrainer`).
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import logsigmoid
from transformers import Trainer

from infra.recipe import RewardTraining
from tasks.training.reward.settings import Head
from tasks.training.trl_seams import StepTrainer, weighted_sum

PassLoss = Callable[["StepRewardTrainer", torch.Tensor, Mapping[str, Any]], torch.Tensor]


class StepRewardTrainer(StepTrainer, Trainer):  # type: ignore[misc]
    """Trains a sequence classifier on batches of JudgedCollator. `shared`: the model reads prompts once."""

    aux_loss_enabled = False

    def __init__(self, *, loss: PassLoss, shared: bool, pad_token_id: int | None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.step_means = defaultdict(float)
        self.sharing = None
        self._loss, self._shared, self._pad = loss, shared, pad_token_id

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The loss of a pass. No outputs are returned: nothing is evaluated during training."""
        return self._loss(self, answer_logits(model, inputs, self._shared, self._pad), inputs)


def answer_logits(model: Any, batch: Mapping[str, Any], shared: bool, pad_token_id: int | None) -> torch.Tensor:
    """The logits of a pass's answers, in float32: [answers, heads]."""
    ids, mask = batch["input_ids"], batch["attention_mask"]
    if shared:
        logits = model(input_ids=ids, attention_mask=mask, trees=batch["trees"], use_cache=False).logits
    elif pad_token_id is None:  # transformers takes the end of the row for the end of the answer then
        rows = []
        for row, length in zip(ids, mask.sum(dim=1).tolist(), strict=True):
            rows.append(model(input_ids=row[None, :length], use_cache=False).logits)
        logits = torch.cat(rows)
    else:
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    result: torch.Tensor = logits.float() if logits.dtype != torch.float64 else logits
    return result


def make_loss(settings: RewardTraining, heads: Sequence[Head]) -> PassLoss:
    """The loss that the settings name."""
    if settings.objective == "pairwise":
        return lambda trainer, logits, batch: _pairwise(trainer, logits, batch, settings)
    spreads = [head.spread for head in heads]
    return lambda trainer, logits, batch: _regression(trainer, logits, batch, spreads)


def pairwise_terms(
    better: torch.Tensor, worse: torch.Tensor, margin: torch.Tensor, center_rewards_coefficient: float
) -> torch.Tensor:
    """TRL's loss of each pair: [pairs]."""
    return -logsigmoid(better - worse - margin) + center_rewards_coefficient * (better + worse) ** 2


def _pairwise(
    trainer: StepRewardTrainer, logits: torch.Tensor, batch: Mapping[str, Any], settings: RewardTraining
) -> torch.Tensor:
    rewards = logits[:, 0]
    better, worse = rewards[batch["pairs"][:, 0]], rewards[batch["pairs"][:, 1]]
    margin = settings.margin * batch["differences"].to(rewards)
    trainer.add_to_means(batch, {"margin": better - worse, "accuracy": (better > worse).double()})
    return weighted_sum(batch, pairwise_terms(better, worse, margin, settings.center_rewards_coefficient))


def _regression(
    trainer: StepRewardTrainer, logits: torch.Tensor, batch: Mapping[str, Any], spreads: Sequence[float]
) -> torch.Tensor:
    errors = logits - batch["scores"].to(logits)
    trainer.add_to_means(batch, {"error": errors.abs()})
    return weighted_sum(batch, (errors / errors.new_tensor(spreads)) ** 2)
