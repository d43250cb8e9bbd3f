"""ORPO (Hong et al. 2024, arXiv:2403.07691) on TRL's trainer, with SeaLong's likelihood term or TRL's own.

loss = NLL(chosen) + beta * -log sigmoid(log odds(chosen) - log odds(rejected)), where log odds(y) = log p -
log(1 - p) and log p is the mean log-probability of the answer's tokens. With nll_over = "answer" (the paper,
SeaLong) NLL is that mean, negated, and the logits of the prompt are never built; with "all" it is TRL's: the
mean over all tokens of prompt and answer.
"""

from typing import Any

from tasks.training.losses import Loss, LossSetup


def make_trainer(setup: LossSetup) -> Any:
    """A trainer for ORPO."""
    from trl.experimental.orpo import ORPOConfig
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    from tasks.training.orpo_trainer import PairsORPOTrainer

    arguments = ORPOConfig(
        **setup.arguments,
        beta=setup.settings.beta,
        max_length=setup.max_length,  # None would mean 512
        disable_dropout=False,  # would silence the adapter's own dropout
    )
    rest: dict[str, Any] = {
        "nll_over": setup.settings.nll_over,
        "offload_activations": setup.settings.offload_activations,
        "model": setup.model,
        "args": arguments,
        "data_collator": DataCollatorForPreference(setup.tokenizer.pad_token_id, setup.max_length),
        "train_dataset": setup.pairs,
        "processing_class": setup.tokenizer,
        "peft_config": setup.adapter,
        "callbacks": list(setup.callbacks),
    }
    if setup.sharing is None:
        return PairsORPOTrainer(**rest)
    from tasks.training.shared_prefix.trainers import SharedORPOTrainer

    return SharedORPOTrainer(sharing=setup.sharing, **rest)


LOSS = Loss("orpo", make_trainer)
