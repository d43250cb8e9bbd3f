"""What watches a training run in its process: the progress file, the guards, and the mark of a complete checkpoint.

A loss or gradient that is not finite stops the run at once; a run that changed no weight is an error
too. Leaves out: evaluation during training.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from infra.errors import TrainingError
from tasks.training.checkpoints import COMPLETE, complete_checkpoints, remove_resume_state
from tasks.training.settings import quarter_means

_SAMPLED_VALUES = 512  # values of each tensor that are compared before and after
_RENAMED = {"learning_rate": "lr", "rewards/margins": "margin", "rewards/accuracies": "accuracy"}


class ProgressCallback(TrainerCallback):  # type: ignore[misc]
    """Writes a line per optimiser step, checks it, and marks checkpoints that are written to the end.

    `all_checkpoints`: all of them stay; what only a resumed run needs stays in the last one alone.
    """

    def __init__(self, progress: Path, all_checkpoints: bool = False) -> None:
        self._progress = progress
        self._all_checkpoints = all_checkpoints

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Called after every optimiser step, and once at the end with a summary that has no `loss`."""
        if logs is None or "loss" not in logs:
            return
        step = step_record(state.global_step, state.max_steps, logs)
        check_finite(step)
        if state.is_world_process_zero:
            with self._progress.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(step, sort_keys=True) + "\n")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called when all files of a checkpoint are written."""
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()
            if self._all_checkpoints:
                for step, folder in complete_checkpoints(Path(args.output_dir)):
                    if step < state.global_step:
                        remove_resume_state(folder)


def step_record(step: int, total_steps: int, logs: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the progress file: step, total_steps, loss, lr, grad_norm, margin and the loss's other numbers."""
    record: dict[str, Any] = {"step": step, "total_steps": total_steps}
    for name, value in logs.items():
        if name != "total_flos":
            record[_RENAMED.get(name, name)] = float(value)
    return record


def check_finite(step: Mapping[str, Any]) -> None:
    """Raises TrainingError when the loss or the gradient norm of a step is not a finite number."""
    for name in ("loss", "grad_norm"):
        value = step.get(name, 0.0)
        if not math.isfinite(value):
            raise TrainingError(
                f"the {name} of step {step['step']} is {value}; lower training.learning_rate, or set "
                "training.dtype to float32, and look at the rows of this step"
            )


@dataclass(frozen=True, slots=True)
class ChangedTensors:
    """How many of the trained tensors changed; for adapters, of LoRA's B matrices alone."""

    changed: int
    tensors: int


class Snapshot:
    """Some values of every trained tensor before training; with LoRA, of its B matrices, which start at zero."""

    def __init__(self, model: Any) -> None:
        trained: dict[str, Any] = {}
        adapters: dict[str, Any] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                trained[name] = parameter
                if ".lora_B." in name:
                    adapters[name] = parameter
        self._before: dict[str, Any] = {}
        for name, parameter in (adapters or trained).items():
            self._before[name] = _sample_values(parameter)

    def compare(self, model: Any) -> ChangedTensors:
        """Compare with the same model after training."""
        after = dict(model.named_parameters())
        changed = 0
        for name, before in self._before.items():
            if not _sample_values(after[name]).equal(before):
                changed += 1
        return ChangedTensors(changed, len(self._before))


def check_model_changed(steps: Sequence[Mapping[str, Any]], tensors: ChangedTensors) -> None:
    """Raises TrainingError when a finished run changed nothing in the model or its loss."""
    losses = [step["loss"] for step in steps]
    if tensors.changed == 0:
        cause = f"none of {tensors.tensors} trained tensors changed"
    elif steps and all(step.get("grad_norm") == 0.0 for step in steps):
        cause = "the gradient was zero at every step"
    elif len(steps) >= 4 and len(set(losses)) == 1:
        cause = f"the loss was {losses[0]} at every step"
    else:
        return
    first, last = quarter_means(losses) if losses else (math.nan, math.nan)
    raise TrainingError(
        f"the loss did not move: {cause} (mean loss of the first quarter {first:.6g}, of the last {last:.6g}); "
        "raise training.learning_rate, lower training.warmup or give it more steps"
    )


def _sample_values(tensor: Any) -> Any:
    """Evenly spread values, copied to the CPU."""
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // _SAMPLED_VALUES)].float().cpu().clone()
