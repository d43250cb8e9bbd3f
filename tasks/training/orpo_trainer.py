"""TRL's ORPO trainer over rows that are encoded already, with log-probabilities of the answers alone.

Only the forward pass is replaced: it reads TRL's preference batches (chosen rows first, then rejected) and
asks the model for the logits that the loss needs. The odds ratio and the metrics stay TRL's.
"""

import contextlib
from typing import Any, Literal

import torch
from trl.experimental.orpo import ORPOTrainer
from trl.models import get_act_offloading_ctx_manager
from trl.trainer.utils import selective_log_softmax


class PairsORPOTrainer(ORPOTrainer):  # type: ignore[misc]
    """ORPO with `nll_over`: "answer" (SeaLong) or "all" (TRL)."""

    def __init__(
        self, *, nll_over: Literal["answer", "all"], offload_activations: bool = False, **arguments: Any
    ) -> None:
        self.nll_over = nll_over
        super().__init__(**arguments)
        self._offloading: Any = contextlib.nullcontext()
        if offload_activations:
            self._offloading = get_act_offloading_ctx_manager(model=self.model)

    def training_step(self, *arguments: Any, **settings: Any) -> torch.Tensor:
        """One forward and backward pass; what the backward pass needs waits in main memory, if that is wished."""
        with self._offloading:
            loss: torch.Tensor = super().training_step(*arguments, **settings)
        return loss

    def tokenize_row(self, feature: Any, model: Any = None) -> None:
        """Nothing: rows come encoded from the gate."""

    def create_model_card(self, *arguments: Any, **settings: Any) -> None:
        """Nothing: the card is written once, with the numbers of the whole run."""

    def concatenated_forward(self, model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Mean log-probabilities of chosen and rejected answers, their logits, and the likelihood term.

        `batch` holds input_ids, attention_mask and completion_mask, all [2 x pairs, tokens].
        """
        ids, answers = batch["input_ids"], batch["completion_mask"]
        start = 1 if self.nll_over == "all" else int(answers.argmax(dim=1).min())  # first token with a prediction
        keep = ids.shape[1] - start + 1
        extra = {"output_router_logits": True} if self.aux_loss_enabled else {}
        outputs = model(ids, attention_mask=batch["attention_mask"], use_cache=False, logits_to_keep=keep, **extra)
        logits = outputs.logits[:, -keep:-1]
        log_probs = selective_log_softmax(logits.float(), ids[:, start:])
        chosen, rejected = mean_over(log_probs, answers[:, start:]).chunk(2)
        if self.nll_over == "answer":
            nll = -chosen.mean()
        else:
            nll = -token_mean(log_probs.chunk(2)[0], batch["attention_mask"][:, start:].chunk(2)[0])
        found = (chosen, rejected, *logits.chunk(2), nll)
        return (*found, outputs.aux_loss) if self.aux_loss_enabled else found


def mean_over(log_probs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of each row where `mask` is 1: [rows, tokens] -> [rows]."""
    return (log_probs * mask).sum(dim=1) / mask.sum(dim=1)


def token_mean(log_probs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean over all tokens of all rows where `mask` is 1: a scalar."""
    return (log_probs * mask).sum() / mask.sum()
