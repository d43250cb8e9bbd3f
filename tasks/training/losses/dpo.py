"""DPO (Rafailov et al. 2023, arXiv:2305.18290) on TRL's trainer, with LongReward's likelihood term.

A pair's loss is -log sigmoid(beta * (gain(chosen) - gain(rejected))) + sft_weight * NLL(chosen). The gain of an answer
is the sum of log p over its tokens under the model, minus that under the reference: the base model, which is the model
with its adapter switched off, or a copy when all weights are trained. NLL is the mean of -log p over the chosen
answer's own tokens; TRL's own is over all tokens of a pass, and so the same where a pass has one pair. A question's
loss is the mean over its pairs, a step's the mean over its questions, however many go through the model at once: a
question of six pairs weighs as much as one of one.

The reference's sums are computed in every step, or once for all questions before training. Then they are written to a
file as they are computed, a line for a question of each process, and a run that was stopped goes on after the last
line (tasks/training/reference.py). One question is read at a time there, unpadded. Where a question has a short prompt
(losses/longpo.py) the reference reads that one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.training.losses import Loss, LossSetup
from tasks.training.reference import Rows, append_reference, check_reference, read_reference

if TYPE_CHECKING:
    import torch

    from tasks.training.trl_seams import StepDPOTrainer


def make_trainer(setup: LossSetup) -> Any:
    """A trainer for DPO; with settings.sft_weight > 0 LongReward's sum of two terms."""
    from trl import DPOConfig

    from tasks.training.trl_seams import StepDPOTrainer

    arguments = DPOConfig(
        **setup.arguments,
        beta=setup.settings.beta,
        max_length=setup.max_length,  # the default of 1024 cuts, and drops rows without a message
        disable_dropout=False,  # would switch off the adapter's own dropout
        precompute_ref_log_probs=setup.reference is not None,
        activation_offloading=setup.settings.offload_activations,
    )
    return StepDPOTrainer(
        sharing=setup.sharing,
        pass_loss=DPOLoss(setup.settings.sft_weight, computed_before=setup.reference is not None),
        add_reference=ReferenceColumn(setup.reference) if setup.reference is not None else None,
        data_collator=setup.collator(arguments),
        **setup.trainer_arguments(arguments),
    )


@dataclass(frozen=True, slots=True)
class DPOLoss:
    """The loss of a pass; `computed_before` says that the rows bring the reference's sums."""

    sft_weight: float
    computed_before: bool

    def __call__(self, trainer: "StepDPOTrainer", model: Any, batch: dict[str, Any]) -> "torch.Tensor":
        from torch.nn.functional import logsigmoid

        from tasks.training.trl_seams import answer_labels, weighted_sum

        reference = None
        if not self.computed_before:
            read = batch.get("reference_pass", batch)  # the prompts of the reference, where they are others
            reference = trainer.reference_sums(trainer.ref_model or trainer.model, read)
        output = trainer.score_tokens(model, batch, answer_labels(batch))
        tokens = batch["completion_mask"].sum(dim=1)
        log_p = output.log_probs.sum(dim=1)
        if reference is None:
            reference = batch["reference"].to(log_p)
        rewards = trainer.beta * (log_p - reference)
        chosen, rejected = batch["pairs"].T
        losses = -logsigmoid(rewards[chosen] - rewards[rejected])
        if self.sft_weight:
            losses = losses - self.sft_weight * (log_p / tokens)[chosen]
        logits = output.mean_logits.sum(dim=1) / tokens
        margins = rewards[chosen] - rewards[rejected]
        trainer.add_to_means(
            batch,
            {
                "rewards/chosen": rewards[chosen],
                "logps/chosen": log_p[chosen],
                "logits/chosen": logits[chosen],
                "rewards/rejected": rewards[rejected],
                "logps/rejected": log_p[rejected],
                "logits/rejected": logits[rejected],
                "rewards/margins": margins,
                "rewards/accuracies": (margins > 0).float(),
                "mean_token_accuracy": (output.is_top1.sum(dim=1) / tokens)[chosen],
            },
        )
        auxiliary = trainer.auxiliary_loss(batch, output, trainer.router_aux_loss_coef)
        total: torch.Tensor = weighted_sum(batch, losses) + auxiliary
        return total


@dataclass(frozen=True, slots=True)
class ReferenceColumn:
    """Adds the reference's sums to a dataset as a column `reference`; `file` holds those computed before."""

    file: Path

    def __call__(self, trainer: "StepDPOTrainer", dataset: Any) -> Any:
        rows = read_reference(self.file)
        trainer.accelerator.wait_for_everyone()  # no process appends a line before all have read
        print(f"reference log-probabilities: those of {len(rows)} of {len(dataset)} questions are known", flush=True)
        for new_rows in _compute_sums(trainer, dataset, len(rows)):
            check_reference(new_rows, len(rows))
            rows += new_rows
            if trainer.accelerator.is_main_process:
                append_reference(self.file, new_rows)
        return dataset.add_column("reference", rows)


def _compute_sums(trainer: "StepDPOTrainer", dataset: Any, first_row: int) -> Iterator[Rows]:
    """The sums of the questions from `first_row` on; each time those of one question for each process."""
    from accelerate.utils import gather_object

    model = (trainer.ref_model or trainer.model).eval()
    accelerator = trainer.accelerator
    for first in range(first_row, len(dataset), accelerator.num_processes):
        # A process without a question of its own reads the last one again: all must take part in each gather.
        row = dataset[min(first + accelerator.process_index, len(dataset) - 1)]
        sums: list[float] = []
        for batch in _reference_passes(trainer, row):
            sums += trainer.reference_sums(model, batch).tolist()
        yield gather_object([sums])[: len(dataset) - first]


def _reference_passes(trainer: "StepDPOTrainer", row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A question as the reference reads it: its tree, or, where nothing is shared, one answer after another."""
    from tasks.training.passes import StepCollator

    collator = StepCollator(trainer.data_collator.pad_token_id, questions_per_pass=1)
    parts = [row["answers"]]
    if trainer.sharing is None:
        parts = [[answer] for answer in row["answers"]]
    for answers in parts:
        prompt = row.get("short_prompt_ids") or row["prompt_ids"]
        (batch,) = collator([{"prompt_ids": prompt, "answers": answers, "pairs": [[0, 0]]}])["passes"]
        yield {name: tensor.to(trainer.accelerator.device) for name, tensor in batch.items()}


LOSS = Loss("dpo", make_trainer, reference=True)
