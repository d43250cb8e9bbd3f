"""DPO (Rafailov et al. 2023, arXiv:2305.18290) on TRL's trainer, with LongReward's likelihood term.

loss = -log sigmoid(beta * difference of log-ratios) + sft_weight * NLL(chosen answer). A log-ratio is the sum of
log p over an answer's tokens under the model, minus that under the reference: the base model, which is the model with
its adapter switched off, or a copy when all weights are trained; its sums are computed once for all questions and
kept, or live in every step (training.reference). NLL is the mean of -log p over the chosen answer's
own tokens. A question's loss is the mean over its pairs, a step's the mean over its questions, however many go through
the model at once; TRL's own NLL is over all tokens of a pass, and so the same where a pass has one pair.
"""

from typing import Any

from tasks.training.losses import Loss, LossSetup


def make_trainer(setup: LossSetup) -> Any:
    """A trainer for DPO; with settings.sft_weight > 0 LongReward's sum of two terms."""
    from trl import DPOConfig

    from tasks.training.dpo_trainer import StepDPOTrainer

    arguments = DPOConfig(
        **setup.arguments,
        beta=setup.settings.beta,
        max_length=setup.max_length,  # the default of 1024 cuts, and drops rows without a word
        disable_dropout=False,  # would silence the adapter's own dropout
        precompute_ref_log_probs=setup.reference is not None,
        activation_offloading=setup.settings.offload_activations,
    )
    return StepDPOTrainer(
        sharing=setup.sharing,
        sft_weight=setup.settings.sft_weight,
        kept=setup.reference,
        data_collator=setup.collator(arguments),
        **setup.trainer_arguments(arguments),
    )


LOSS = Loss("dpo", make_trainer, reference=True)
