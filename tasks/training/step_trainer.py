"""What the trainers over questions have in common: a step is the passes of its batch, and a pass reads trees.

A mixin before one of TRL's trainers. The Trainer below sees one batch per optimiser step, the same in every process,
and does not accumulate; here each of the process's passes goes forward and backward in turn, gradients meet at the
last, and what is logged is gathered over the passes with the weights of the loss. So a step's numbers are means over
its questions, whatever the number of passes and processes.
"""

import contextlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from accelerate.data_loader import BatchSamplerShard
from peft import PeftModel

from infra.errors import TrainingError
from tasks.training.shared_prefix.choice import Sharing
from tasks.training.shared_prefix.forward import IGNORED, share_prompts

SHARED = "shared_prompt"  # the logged number: the share of a step's weight whose prompts were read once


class StepTrainer:
    """Trains on batches of StepCollator. The class after it in the order of bases is one of TRL's trainers."""

    accelerator: Any
    aux_loss_enabled: bool
    offloading: Any = contextlib.nullcontext()  # around each pass, forward and backward

    def share(self, sharing: Sharing | None, *models: Any) -> None:
        """Let the models read prompts once where `sharing` decides so; None leaves them as they are."""
        self._sharing = sharing
        self._told: dict[str, Any] = defaultdict(float)
        if sharing is None:
            return
        if self.aux_loss_enabled:
            raise TrainingError(
                "the base model has an auxiliary loss over its experts, which counts the tokens of every prompt; set "
                "training.sharing to off"
            )
        for model in models:
            share_prompts(bare(model), sharing.decide)

    def get_train_dataloader(self) -> Any:
        """Whole steps for every process: the collator deals out their passes."""
        loader = super().get_train_dataloader()  # type: ignore[misc]
        if isinstance(shard := loader.batch_sampler, BatchSamplerShard):  # would fill up the last step, too
            shard.num_processes, shard.process_index, shard.even_batches = 1, 0, False
        return loader

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        """Gradients of a whole step; returns its loss."""
        self._told.clear()
        passes, total = inputs["passes"], 0.0
        for number, each in enumerate(passes, 1):
            last = number == len(passes)
            self.accelerator.gradient_state._set_sync_gradients(last)
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model), self.offloading:
                total = total + super().training_step(model, each)  # type: ignore[misc]
        self._counts = {name: inputs[name] for name in ("questions", "pairs")}
        return total

    def read(self, model: Any, batch: Mapping[str, Any], labels: torch.Tensor) -> Any:
        """TRL's per-token fields of a pass, each [answers, tokens - 1], zero where there is no label."""
        more: dict[str, Any] = {"output_router_logits": True} if self.aux_loss_enabled else {}
        found = model(**self.seen(batch), **more, labels=labels, use_cache=False, fused_lm_head=True)
        if self._sharing is not None:
            shared = batch["weights"].new_full(batch["weights"].shape, float(self._sharing.shared))
            self.tell(batch, {SHARED: shared})
        return found

    def seen(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """What of a pass the model is given."""
        names = ("input_ids", "attention_mask", *(("trees",) if self._sharing is not None else ()))
        return {name: batch[name] for name in names}

    def tell(self, batch: Mapping[str, Any], numbers: Mapping[str, torch.Tensor]) -> None:
        """Log numbers of the pass's pairs, [pairs] each: a step's are their means, weighted as the loss is."""
        for name, values in numbers.items():
            self._told[name] += weighted(batch, values.detach().double())

    def auxiliary(self, batch: Mapping[str, Any], found: Any, coefficient: float) -> Any:
        """The experts' auxiliary loss of a pass, by the share of the step that the pass is; 0 without one."""
        return (
            coefficient * found.aux_loss * batch["weights"].sum().to(found.aux_loss) if self.aux_loss_enabled else 0.0
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the step's numbers: means over its questions, and how many questions and pairs it had."""
        if "loss" in logs:
            means = self.accelerator.reduce(torch.stack([*self._told.values()]), "mean").tolist()
            logs |= {**dict(zip(self._told, means, strict=True)), **self._counts}
        super().log(logs, start_time)  # type: ignore[misc]

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: the Trainer's estimate knows padded batches only."""
        return 0

    def create_model_card(self, *arguments: Any, **settings: Any) -> None:
        """Nothing: the card is written once, with the numbers of the whole run."""


def weighted(batch: Mapping[str, Any], values: torch.Tensor) -> torch.Tensor:
    """The pass's part of the step's mean over questions: [pairs] -> a scalar."""
    weights: torch.Tensor = batch["weights"]
    return (values * weights.to(values)).sum()


def answer_labels(batch: Mapping[str, Any]) -> torch.Tensor:
    """The tokens of answers, IGNORED elsewhere: [answers, tokens]."""
    labels: torch.Tensor = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORED)
    return labels


def bare(model: Any) -> Any:
    """The transformers model under an adapter."""
    return model.get_base_model() if isinstance(model, PeftModel) else model
