"""Losses by name. A loss is one file of this package with a constant `LOSS`; adding one is adding a file.

A loss computes the loss of a forward pass, and makes a TRL trainer (tasks/training/trl_seams.py) over questions that
the gate encoded: prompt_ids, answers, pairs. It must neither cut nor drop any of them; `run` counts them again. These
files are imported in the parent process too, so they import torch and TRL inside their functions.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.errors import RecipeError
from infra.plugins import find_plugins
from infra.recipe import Training


@dataclass(frozen=True, slots=True)
class LossSetup:
    """What a loss makes its trainer from. `arguments` are transformers' TrainingArguments, with a whole step's
    questions as the batch of every device."""

    model: Any
    adapter: Any | None  # a PEFT configuration; None trains all weights
    tokenizer: Any
    pairs: Any  # a datasets.Dataset of the encoded questions
    max_length: int  # the longest prompt with an answer, in tokens
    settings: Training
    arguments: Mapping[str, Any]
    callbacks: tuple[Any, ...]
    reference: Path | None = None  # the file of reference log-probabilities; None computes them in each step
    sharing: Any | None = None  # a shared_prefix.choice.SharingRule; None reads the prompt once per answer

    def trainer_arguments(self, arguments: Any) -> dict[str, Any]:
        """What every trainer is made with; `arguments` are the TrainingArguments as made."""
        return {
            "model": self.model,
            "args": arguments,
            "train_dataset": self.pairs,
            "processing_class": self.tokenizer,
            "peft_config": self.adapter,
            "callbacks": list(self.callbacks),
        }

    def collator(self, arguments: Any) -> Any:
        """What makes a process's passes out of a step's questions; `arguments` are the TrainingArguments as made."""
        from tasks.training.passes import StepCollator

        return StepCollator(
            self.tokenizer.pad_token_id,
            self.settings.device_batch_size,
            self.settings.pack_tokens,
            separate_pairs=self.sharing is None,
            process=arguments.process_index,
            processes=arguments.world_size,
        )


@dataclass(frozen=True, slots=True)
class Loss:
    """`make_trainer(setup)` makes a TRL trainer whose train_dataset has one row per question.

    With `short_reference` rows have `short_prompt_ids` too, the prompt that the reference reads.
    """

    name: str
    make_trainer: Callable[[LossSetup], Any]
    reference: bool = False  # whether it compares with a reference model
    short_reference: bool = False


@functools.cache
def all_losses() -> Mapping[str, Loss]:
    """All losses of this package, by name."""
    return find_plugins(__name__, "LOSS")


def find_loss(name: str) -> Loss:
    """The loss of that name. Raises RecipeError naming those there are."""
    if name not in all_losses():
        raise RecipeError(f"training.loss: there is no loss {name!r}; there are: {', '.join(all_losses())}")
    return all_losses()[name]
