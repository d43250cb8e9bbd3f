"""DPO over questions: TRL's trainer with its model, reference and head, and the loss by pairs of a tree.

A pair's loss is TRL's: -log sigmoid(beta x (gain(chosen) - gain(rejected))) + sft_weight x NLL(chosen), where gain is
the sum of log p over an answer's tokens under the model minus that under the reference, and NLL the mean of -log p
over the chosen answer's tokens. A question's is the mean over its pairs, a step's the mean over its questions: a
question of six pairs weighs as much as one of one, and with one pair it is the plain loss.
"""

from typing import Any

import torch
from torch.nn.functional import logsigmoid
from trl import DPOTrainer

from tasks.training.shared_prefix.choice import Sharing
from tasks.training.step_trainer import StepTrainer, answer_labels, weighted


class StepDPOTrainer(StepTrainer, DPOTrainer):  # type: ignore[misc]
    """DPO on encoded questions; `sharing` reads their prompts once, by the model and by the reference."""

    def __init__(self, *, sharing: Sharing | None, sft_weight: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.sft_weight = sft_weight
        reference = () if self.ref_model is None else (self.accelerator.unwrap_model(self.ref_model),)
        self.share(sharing, self.model, *reference)

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        """The loss of a pass: its part of the step's."""
        reference = self.reference(inputs)
        found = self.read(model, inputs, answer_labels(inputs))
        tokens = inputs["completion_mask"].sum(dim=1)
        log_p = found.log_probs.sum(dim=1)
        rewards = self.beta * (log_p - reference)
        chosen, rejected = inputs["pairs"].T
        losses = -logsigmoid(rewards[chosen] - rewards[rejected])
        if self.sft_weight:
            losses = losses - self.sft_weight * (log_p / tokens)[chosen]
        by_answer = {"rewards": rewards, "logps": log_p, "logits": found.mean_logits.sum(dim=1) / tokens}
        told = {f"{name}/chosen": values[chosen] for name, values in by_answer.items()}
        told |= {f"{name}/rejected": values[rejected] for name, values in by_answer.items()}
        told["rewards/margins"] = told["rewards/chosen"] - told["rewards/rejected"]
        told["rewards/accuracies"] = (told["rewards/margins"] > 0).float()
        told["mean_token_accuracy"] = (found.is_top1.sum(dim=1) / tokens)[chosen]
        self.tell(inputs, told)
        return weighted(inputs, losses) + self.auxiliary(inputs, found, self.router_aux_loss_coef)

    def reference(self, batch: dict[str, Any]) -> torch.Tensor:
        """The sum of log p over each answer's tokens under the base model: [answers]."""
        given = {**self.seen(batch), "completion_mask": batch["completion_mask"]}
        return torch.cat(self.compute_ref_log_probs(self.ref_model or self.model, given))
