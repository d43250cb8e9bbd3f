"""DPO and ORPO on encoded pairs, each prompt read once: Longmill's trainers with another forward, the losses untouched.

The reference of a DPO run goes the same way: the same model with its adapter off, or the copy of the base. Every
logged step says which part of its forward passes was shared. With dropout in the adapter, both answers see the same
draw over the prompt, where the stock trainer draws twice.
"""

from typing import Any, Literal

import torch
from peft import PeftModel
from trl.trainer.utils import add_fused_lm_head

from infra.errors import TrainingError
from tasks.training.orpo_trainer import PairsORPOTrainer, mean_over, token_mean
from tasks.training.ready_trainers import PairsDPOTrainer
from tasks.training.shared_prefix.choice import Sharing
from tasks.training.shared_prefix.forward import IGNORED, share_prompts

SHARED = "shared_prompt"  # the logged number: 1 when a pass read the prompt once, else 0


class SharedDPOTrainer(PairsDPOTrainer):
    """DPO on encoded pairs, the prompt of a pair read once by the model and once by the reference."""

    def __init__(self, *, sharing: Sharing, **arguments: Any) -> None:
        self._sharing, self._reads_once = sharing, False
        super().__init__(**arguments)
        self._read_once()

    def _precompute_ref_logps(self, dataset: Any, *settings: Any) -> Any:
        self._read_once()  # TRL asks for the reference while it is still making the trainer
        return super()._precompute_ref_logps(dataset, *settings)

    def _read_once(self) -> None:
        """Share the prompts of model and reference, from the first call on."""
        if self._reads_once:
            return
        self._reads_once = True
        _refuse_auxiliary_loss(self)
        share_prompts(_bare(self.model), self._sharing.decide)
        if self.ref_model is not None:
            share_prompts(self.accelerator.unwrap_model(self.ref_model), self._sharing.decide)

    def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
        found = super()._compute_loss(model, inputs, return_outputs)
        self._metrics["train" if self.model.training else "eval"][SHARED].append(float(self._sharing.shared))
        return found


class SharedORPOTrainer(PairsORPOTrainer):
    """ORPO on encoded pairs, the prompt of a pair read once; no logits but those of scored tokens, in chunks."""

    def __init__(self, *, sharing: Sharing, nll_over: Literal["answer", "all"], **arguments: Any) -> None:
        super().__init__(nll_over=nll_over, **arguments)
        _refuse_auxiliary_loss(self)
        self._sharing = sharing
        bare = _bare(self.model)
        add_fused_lm_head(bare, outputs=("log_probs", "mean_logits"))
        share_prompts(bare, sharing.decide)

    def concatenated_forward(self, model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """As PairsORPOTrainer's; in the place of logits their mean over the vocabulary at each answer token."""
        sharing, answers = self._sharing, batch["completion_mask"][:, 1:]
        labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORED)
        if self.nll_over == "all":
            chosen_rows = len(labels) // 2
            labels[:chosen_rows] = batch["input_ids"][:chosen_rows].masked_fill(
                batch["attention_mask"][:chosen_rows] == 0, IGNORED
            )
        found = model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            labels=labels,
            use_cache=False,
            fused_lm_head=True,
        )
        self.store_metrics({SHARED: float(sharing.shared)}, train_eval="train" if self.model.training else "eval")
        chosen, rejected = mean_over(found.log_probs, answers).chunk(2)
        means = [side[mask.bool()] for side, mask in zip(found.mean_logits.chunk(2), answers.chunk(2), strict=True)]
        if self.nll_over == "answer":
            nll = -chosen.mean()
        else:
            nll = -token_mean(found.log_probs.chunk(2)[0], batch["attention_mask"][:, 1:].chunk(2)[0])
        return chosen, rejected, *means, nll


def _bare(model: Any) -> Any:
    """The transformers model under an adapter."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _refuse_auxiliary_loss(trainer: Any) -> None:
    if trainer.aux_loss_enabled:
        raise TrainingError(
            "the base model has an auxiliary loss over its experts, which counts the tokens of both prompts; set "
            "training.sharing to off"
        )
