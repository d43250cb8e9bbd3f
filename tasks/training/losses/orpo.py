"""ORPO (Hong et al. 2024, arXiv:2403.07691) on TRL's trainer, with SeaLong's likelihood term or TRL's own.

loss = NLL(chosen) + beta * -log sigmoid(log odds(chosen) - log odds(rejected)), where log odds(y) = log p -
log(1 - p) and log p is the mean log-probability of the answer's tokens. With nll_over = "answer" (the paper,
SeaLong) NLL is that mean, negated; with "all" it is TRL's: the mean over all tokens of prompt and answer. A
question's loss is the mean over its pairs, a step's the mean over its questions. The prompt's logits are not kept.
"""

from typing import Any

from tasks.training.losses import Loss, LossSetup


def make_trainer(setup: LossSetup) -> Any:
    """A trainer for ORPO."""
    from trl.experimental.orpo import ORPOConfig

    from tasks.training.orpo_trainer import StepORPOTrainer

    arguments = ORPOConfig(
        **setup.arguments,
        beta=setup.settings.beta,
        max_length=setup.max_length,  # None would mean 512
        disable_dropout=False,  # would silence the adapter's own dropout
    )
    return StepORPOTrainer(
        sharing=setup.sharing,
        nll_over=setup.settings.nll_over,
        offload_activations=setup.settings.offload_activations,
        data_collator=setup.collator(arguments),
        **setup.trainer_arguments(arguments),
    )


LOSS = Loss("orpo", make_trainer)
