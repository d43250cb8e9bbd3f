"""TRL's trainers with Longmill's steps: everything that Longmill uses of TRL and accelerate beyond their public API.

Nothing else in Longmill may use an internal name of these packages; `tests/tasks/training/test_trl_seams.py` fails by
name when an upgrade changes one of them:

- trl `DPOTrainer._prepare_dataset`: rows are encoded already, and TRL has no setting that skips its own encoding;
- trl `DPOTrainer._precompute_ref_logps`: TRL's starts from the first question after a stop, and takes pairs only;
- trl `DPOTrainer.compute_ref_log_probs`: the base model is the model with its adapter off, or TRL's copy of it;
- trl `ORPOTrainer.tokenize_row`, `get_batch_loss_metrics`, `odds_ratio_loss`: methods of an experimental trainer;
- trl `DPOTrainer.router_aux_loss_coef`, `ORPOTrainer.aux_loss_coef`, both `aux_loss_enabled`: set from the model;
- trl `add_fused_lm_head` and `FusedCausalLMOutput`: the head without logits, which only TRL's DPO adds by itself;
- trl `get_act_offloading_ctx_manager`: TRL's other trainers offload activations by themselves, its ORPO does not;
- accelerate `BatchSamplerShard`: accelerate has no setting that gives every process the whole step;
- transformers `PreTrainedConfig._attn_implementation`: no public name says which attention a loaded model uses.

A step is the passes of its batch, and a pass reads question trees. The Trainer below sees one batch per optimiser step,
the same in every process, and does not accumulate. `StepTrainer` runs each of the process's passes forward and backward
in turn; gradients are synchronised at the last one, and what is logged is gathered over the passes with the weights of
the loss. So a step's numbers are means over its questions, whatever the number of passes and processes. What a loss
computes in a pass is in its file in `tasks/training/losses`.
"""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from accelerate.data_loader import BatchSamplerShard
from peft import PeftModel
from trl import DPOTrainer, SFTTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.models import get_act_offloading_ctx_manager
from trl.trainer.utils import add_fused_lm_head

from infra.errors import TrainingError
from tasks.training.shared_prefix.cost import SharingRule
from tasks.training.shared_prefix.forward import share_prompts
from tasks.training.shared_prefix.layout import IGNORED

SHARED = "shared_prompt"  # the logged number: the share of a step's weight whose prompts were read once


class StepTrainer:
    """Trains on batches of StepCollator. The class after it in the order of bases is one of TRL's trainers.

    `pass_loss(trainer, model, batch)` is the loss of one pass, its part of the step's.
    """

    accelerator: Any
    aux_loss_enabled: bool
    pass_loss: Callable[[Any, Any, dict[str, Any]], torch.Tensor]
    offloading: Any = contextlib.nullcontext()  # around each pass, forward and backward

    def set_sharing(self, sharing: SharingRule | None, *models: Any) -> None:
        """Let the models read prompts once where `sharing` applies; None leaves them as they are."""
        self.sharing = sharing
        self.step_means: dict[str, Any] = defaultdict(float)
        if sharing is None:
            return
        if self.aux_loss_enabled:
            raise TrainingError(
                "the base model has an auxiliary loss over its experts, which counts the tokens of every prompt; set "
                "training.sharing to off"
            )
        for model in models:
            share_prompts(without_adapter(model), sharing.applies_to)

    def get_train_dataloader(self) -> Any:
        """Whole steps for every process: the collator gives each process its passes."""
        loader = super().get_train_dataloader()  # type: ignore[misc]
        shard = loader.batch_sampler
        if isinstance(shard, BatchSamplerShard):
            # It would deal the steps out to the processes, and fill up the last step.
            shard.num_processes, shard.process_index, shard.even_batches = 1, 0, False
        return loader

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        """Gradients of a whole step; returns its loss."""
        self.step_means.clear()
        passes, total = inputs["passes"], 0.0
        for number, batch in enumerate(passes, 1):
            last = number == len(passes)
            self.accelerator.sync_gradients = last
            synchronisation = contextlib.nullcontext() if last else self.accelerator.no_sync(model)
            with synchronisation, self.offloading:
                total = total + super().training_step(model, batch)  # type: ignore[misc]
        self.step_counts = {"questions": inputs["questions"], "pairs": inputs["pairs"]}
        return total

    def score_tokens(self, model: Any, batch: Mapping[str, Any], labels: torch.Tensor) -> Any:
        """TRL's per-token fields of a pass, each [answers, tokens - 1], zero where there is no label."""
        options: dict[str, Any] = {"output_router_logits": True} if self.aux_loss_enabled else {}
        output = model(**self.model_inputs(batch), **options, labels=labels, use_cache=False, fused_lm_head=True)
        if self.sharing is not None:
            shared = batch["weights"].new_full(batch["weights"].shape, float(self.sharing.applied))
            self.add_to_means(batch, {SHARED: shared})
        return output

    def model_inputs(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The tensors of a pass that the model takes."""
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        if self.sharing is not None:
            inputs["trees"] = batch["trees"]
        return inputs

    def add_to_means(self, batch: Mapping[str, Any], numbers: Mapping[str, torch.Tensor]) -> None:
        """Log numbers of the pass's pairs, [pairs] each: a step's are their means, weighted as the loss is."""
        for name, values in numbers.items():
            self.step_means[name] += weighted_sum(batch, values.detach().double())

    def auxiliary_loss(self, batch: Mapping[str, Any], output: Any, coefficient: float) -> Any:
        """The experts' auxiliary loss of a pass, by the share of the step that the pass is; 0 without one."""
        if not self.aux_loss_enabled:
            return 0.0
        return coefficient * output.aux_loss * batch["weights"].sum().to(output.aux_loss)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the step's numbers: means over its questions, and how many questions and pairs it had."""
        if "loss" in logs:
            means = self.accelerator.reduce(torch.stack([*self.step_means.values()]), "mean").tolist()
            logs |= {**dict(zip(self.step_means, means, strict=True)), **self.step_counts}
        super().log(logs, start_time)  # type: ignore[misc]

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: the Trainer's estimate works for padded batches only."""
        return 0

    def create_model_card(self, *arguments: Any, **settings: Any) -> None:
        """Does nothing: the card is written once, with the numbers of the whole run."""


class StepDPOTrainer(StepTrainer, DPOTrainer):  # type: ignore[misc]
    """DPO on encoded questions; `sharing` reads their prompts once, by the model and by the reference.

    `add_reference(trainer, dataset)` gives the dataset a column with the reference's sums before training; None
    computes them in each step.
    """

    def __init__(
        self,
        *,
        sharing: SharingRule | None,
        pass_loss: Callable[[Any, Any, dict[str, Any]], torch.Tensor],
        add_reference: Callable[[Any, Any], Any] | None,
        **arguments: Any,
    ) -> None:
        self.pass_loss = pass_loss
        self.add_reference = add_reference
        self.sharing = sharing
        super().__init__(**arguments)
        if add_reference is None:
            self._set_sharing_of_all()

    def _set_sharing_of_all(self) -> None:
        reference = () if self.ref_model is None else (self.accelerator.unwrap_model(self.ref_model),)
        self.set_sharing(self.sharing, self.model, *reference)

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """TRL calls this at the end of its own constructor."""
        assert self.add_reference is not None
        self._set_sharing_of_all()
        return self.add_reference(self, dataset)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The loss of a pass. No outputs are returned: nothing is evaluated during training."""
        return self.pass_loss(self, model, inputs)

    def reference_sums(self, model: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """The sum of log p over each answer's tokens under the base model: [answers]."""
        inputs = {**self.model_inputs(batch), "completion_mask": batch["completion_mask"]}
        return torch.cat(self.compute_ref_log_probs(model, inputs))


class StepORPOTrainer(StepTrainer, ORPOTrainer):  # type: ignore[misc]
    """ORPO on encoded questions; `sharing` reads their prompts once. The prompt's logits are not computed."""

    def __init__(
        self,
        *,
        sharing: SharingRule | None,
        pass_loss: Callable[[Any, Any, dict[str, Any]], torch.Tensor],
        offload_activations: bool,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.pass_loss = pass_loss
        if offload_activations:
            self.offloading = get_act_offloading_ctx_manager(model=self.model)
        add_fused_lm_head(without_adapter(self.model), outputs=("log_probs", "mean_logits"))
        self.set_sharing(sharing, self.model)

    def tokenize_row(self, feature: Any, model: Any = None) -> None:
        """Does nothing: rows come encoded from the gate."""

    def get_batch_loss_metrics(
        self, model: Any, batch: dict[str, Any], train_eval: Literal["train", "eval"] = "train"
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of a pass. Its numbers go to `add_to_means`, none to TRL's own log."""
        return self.pass_loss(self, model, batch), {}


class QuestionsSFTTrainer(SFTTrainer):  # type: ignore[misc]
    """SFT on encoded questions: loss, metrics and steps are TRL's."""

    def create_model_card(self, *arguments: Any, **settings: Any) -> None:
        """Does nothing: the card is written once, with the numbers of the whole run."""


def weighted_sum(batch: Mapping[str, Any], values: torch.Tensor) -> torch.Tensor:
    """The pass's part of the step's mean over questions: [pairs] -> a scalar."""
    weights: torch.Tensor = batch["weights"]
    return (values * weights.to(values)).sum()


def answer_labels(batch: Mapping[str, Any]) -> torch.Tensor:
    """The tokens of answers, IGNORED elsewhere: [answers, tokens]."""
    labels: torch.Tensor = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORED)
    return labels


def without_adapter(model: Any) -> Any:
    """The transformers model under an adapter."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def attention_name(model: Any) -> str | None:
    """The attention that a loaded transformers model uses, for example "sdpa"."""
    name: str | None = model.config.get_text_config()._attn_implementation
    return name
