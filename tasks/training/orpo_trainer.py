"""ORPO over questions: TRL's trainer with its odds-ratio term, and log-probabilities without the prompt's logits.

A pair's loss is NLL(chosen) + beta x TRL's odds-ratio term of the two answers' mean log p per token. NLL is the
negated mean over the chosen answer ("answer", the paper and SeaLong) or over prompt and answer ("all", TRL). A
question's loss is the mean over its pairs, a step's the mean over its questions.
"""

from typing import Any, Literal

import torch
from trl.experimental.orpo import ORPOTrainer
from trl.models import get_act_offloading_ctx_manager
from trl.trainer.utils import add_fused_lm_head

from tasks.training.shared_prefix.choice import Sharing
from tasks.training.shared_prefix.forward import IGNORED
from tasks.training.step_trainer import StepTrainer, answer_labels, bare, weighted


class StepORPOTrainer(StepTrainer, ORPOTrainer):  # type: ignore[misc]
    """ORPO on encoded questions with `nll_over`: "answer" (SeaLong) or "all" (TRL); `sharing` reads prompts once."""

    def __init__(
        self,
        *,
        sharing: Sharing | None,
        nll_over: Literal["answer", "all"],
        offload_activations: bool,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.nll_over = nll_over
        if offload_activations:  # TRL's other trainers do this by themselves
            self.offloading = get_act_offloading_ctx_manager(model=self.model)
        add_fused_lm_head(bare(self.model), outputs=("log_probs", "mean_logits"))
        self.share(sharing, self.model)

    def tokenize_row(self, feature: Any, model: Any = None) -> None:
        """Nothing: rows come encoded from the gate."""

    def get_batch_loss_metrics(
        self, model: Any, batch: dict[str, Any], train_eval: Literal["train", "eval"] = "train"
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of a pass: its part of the step's. Numbers go to `tell`, none to TRL's log."""
        chosen, rejected = batch["pairs"].T
        found = self.read(model, batch, self._labels(batch, chosen))
        answers = batch["completion_mask"][:, 1:]
        log_p, logits = (_mean(values, answers) for values in (found.log_probs, found.mean_logits))
        odds, good, bad, _, _ = self.odds_ratio_loss(log_p[chosen], log_p[rejected])  # beta x log sigmoid
        whole = log_p if self.nll_over == "answer" else _mean(found.log_probs, batch["attention_mask"][:, 1:])
        nll = -whole[chosen]
        told = {
            "rewards/chosen": good,
            "rewards/rejected": bad,
            "rewards/margins": good - bad,
            "rewards/accuracies": (good > bad).float(),
            "logps/chosen": log_p[chosen],
            "logps/rejected": log_p[rejected],
            "logits/chosen": logits[chosen],
            "logits/rejected": logits[rejected],
            "nll_loss": nll,
            "log_odds_ratio": odds / self.beta,
        }
        self.tell(batch, told)
        return weighted(batch, nll - odds) + self.auxiliary(batch, found, self.aux_loss_coef), {}

    def _labels(self, batch: dict[str, Any], chosen: torch.Tensor) -> torch.Tensor:
        """The tokens that are scored: of answers, and with "all" of the chosen ones' prompts: [answers, tokens]."""
        labels = answer_labels(batch)
        if self.nll_over == "all":
            labels[chosen] = batch["input_ids"][chosen].masked_fill(batch["attention_mask"][chosen] == 0, IGNORED)
        return labels


def _mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of each row where `mask` is 1: [answers, tokens] -> [answers]."""
    return (values * mask).sum(dim=1) / mask.sum(dim=1)
