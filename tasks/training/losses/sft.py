"""Supervised fine-tuning on prompt and chosen answer, on TRL's trainer; loss on the answer's tokens only."""

from typing import Any

from tasks.training.losses import Loss, LossSetup


def make_trainer(setup: LossSetup) -> Any:
    """A trainer for SFT on the chosen answers."""
    from trl import SFTConfig

    from tasks.training.ready_trainers import ChosenCollator, PairsSFTTrainer

    arguments = SFTConfig(
        **setup.arguments,
        max_length=setup.max_length,
        completion_only_loss=True,
        activation_offloading=setup.settings.offload_activations,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    return PairsSFTTrainer(
        model=setup.model,
        args=arguments,
        data_collator=ChosenCollator(setup.tokenizer.pad_token_id),
        train_dataset=setup.pairs,
        processing_class=setup.tokenizer,
        peft_config=setup.adapter,
        callbacks=list(setup.callbacks),
    )


LOSS = Loss("sft", make_trainer)
