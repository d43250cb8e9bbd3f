"""Supervised fine-tuning on prompt and best answer, on TRL's trainer; loss on the answer's tokens only.

The best answer of a question is the chosen one of its first pair. The loss is TRL's, the mean over all answer tokens
of a step. One answer of each prompt is read, so there is nothing to share; questions are not packed.
"""

from typing import Any

from tasks.training.losses import Loss, LossSetup


def make_trainer(setup: LossSetup) -> Any:
    """A trainer for SFT on the chosen answers."""
    from trl import SFTConfig

    from tasks.training.settings import accumulation
    from tasks.training.sft_trainer import ChosenCollator, QuestionsSFTTrainer

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


LOSS = Loss("sft", make_trainer)
