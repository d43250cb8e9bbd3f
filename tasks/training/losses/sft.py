"""Supervised fine-tuning on prompt and best answer, on TRL's trainer; loss on the answer's tokens only.

The best answer of a question is the chosen one of its first pair, so further pairs change nothing. The loss is TRL's,
the mean over all answer tokens of a step. One answer of each prompt is read, so there is nothing to share; questions
are not packed.
"""

from typing import Any

from tasks.training.losses import Loss, LossSetup
from tasks.training.shared_prefix.layout import IGNORED


def make_trainer(setup: LossSetup) -> Any:
    """A trainer for SFT on the chosen answers."""
    from trl import SFTConfig

    from tasks.training.settings import accumulation
    from tasks.training.trl_seams import QuestionsSFTTrainer

    batches: dict[str, Any] = {
        "per_device_train_batch_size": setup.settings.device_batch_size,
        "gradient_accumulation_steps": accumulation(setup.settings),
    }
    arguments = SFTConfig(
        **{**setup.arguments, **batches},
        max_length=setup.max_length,
        completion_only_loss=True,
        activation_offloading=setup.settings.offload_activations,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    return QuestionsSFTTrainer(
        data_collator=ChosenCollator(setup.tokenizer.pad_token_id),
        **setup.trainer_arguments(arguments),
    )


class ChosenCollator:
    """Batches of prompt and best answer: input_ids, attention_mask and labels, [rows, tokens], padded at the right."""

    def __init__(self, pad_token_id: int) -> None:
        self._pad_token_id = pad_token_id

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        import torch
        from torch.nn.utils.rnn import pad_sequence

        ids: list[torch.Tensor] = []
        labels: list[torch.Tensor] = []
        for row in rows:
            prompt, answer = row["prompt_ids"], row["answers"][row["pairs"][0][0]]
            ids.append(torch.tensor(prompt + answer))
            labels.append(torch.tensor([IGNORED] * len(prompt) + answer))
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self._pad_token_id),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        }


LOSS = Loss("sft", make_trainer)
