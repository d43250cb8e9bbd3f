"""DPO over questions: TRL's trainer with its model, reference and head, and the loss by pairs of a tree.

A pair's loss is TRL's: -log sigmoid(beta x (gain(chosen) - gain(rejected))) + sft_weight x NLL(chosen), where gain is
the sum of log p over an answer's tokens under the model minus that under the reference, and NLL the mean of -log p
over the chosen answer's tokens. A question's is the mean over its pairs, a step's the mean over its questions: a
question of six pairs weighs as much as one of one, and with one pair it is the plain loss. The reference's sums are
computed live, or once for all questions before training; those go to a file as they are found, a line for a question
of each process, and are read from there when they are known. One question is read at a time then, unpadded.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch.nn.functional import logsigmoid
from trl import DPOTrainer

from tasks.training.passes import StepCollator
from tasks.training.reference import Rows, add_reference, check_reference, read_reference
from tasks.training.shared_prefix.choice import Sharing
from tasks.training.step_trainer import StepTrainer, answer_labels, weighted


class StepDPOTrainer(StepTrainer, DPOTrainer):  # type: ignore[misc]
    """DPO on encoded questions; `sharing` reads their prompts once, by the model and by the reference. `kept` is the
    file of the reference's sums (tasks/training/reference.py), None computes them live."""

    def __init__(self, *, sharing: Sharing | None, sft_weight: float, kept: Path | None, **arguments: Any) -> None:
        self._wanted, self._kept = sharing, kept
        super().__init__(**arguments)
        self.sft_weight = sft_weight
        if kept is None:
            self._share_all()

    def _share_all(self) -> None:
        reference = () if self.ref_model is None else (self.accelerator.unwrap_model(self.ref_model),)
        self.share(self._wanted, self.model, *reference)

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *_: Any) -> Any:
        """The dataset with a column `reference`. TRL asks for it while it is still making the trainer."""
        assert self._kept is not None
        self._share_all()
        rows = read_reference(self._kept)
        self.accelerator.wait_for_everyone()  # nothing is added before all have read
        print(f"reference log-probabilities: those of {len(rows)} of {len(dataset)} questions are known", flush=True)
        for fresh in self._computed(dataset, len(rows)):
            check_reference(fresh, len(rows))
            rows += fresh
            if self.accelerator.is_main_process:
                add_reference(self._kept, fresh)
        return dataset.add_column("reference", rows)

    def _computed(self, dataset: Any, known: int) -> Iterator[Rows]:
        """The sums of the questions after the first `known`, of one for each process at a time."""
        model = (self.ref_model or self.model).eval()
        processes = self.accelerator.num_processes
        for first in range(known, len(dataset), processes):
            own = dataset[min(first + self.accelerator.process_index, len(dataset) - 1)]  # no process may stay away
            sums = [value for each in self._reference_passes(own) for value in self._sums(model, each).tolist()]
            yield gather_object([sums])[: len(dataset) - first]

    def _reference_passes(self, row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """A question as the reference reads it: its tree, or, apart, each answer for itself."""
        collator = StepCollator(self.data_collator.pad_token_id, at_once=1)
        given = [row["answers"]] if self._wanted is not None else [[answer] for answer in row["answers"]]
        for answers in given:
            (only,) = collator([{"prompt_ids": row["prompt_ids"], "answers": answers, "pairs": [[0, 0]]}])["passes"]
            yield {name: each.to(self.accelerator.device) for name, each in only.items()}

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        """The loss of a pass: its part of the step's."""
        live = self._sums(self.ref_model or self.model, inputs) if self._kept is None else None
        found = self.read(model, inputs, answer_labels(inputs))
        tokens = inputs["completion_mask"].sum(dim=1)
        log_p = found.log_probs.sum(dim=1)
        reference = inputs["reference"].to(log_p) if live is None else live
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

    def _sums(self, model: Any, batch: dict[str, Any]) -> torch.Tensor:
        """The sum of log p over each answer's tokens under the base model: [answers]."""
        given = {**self.seen(batch), "completion_mask": batch["completion_mask"]}
        return torch.cat(self.compute_ref_log_probs(model, given))
