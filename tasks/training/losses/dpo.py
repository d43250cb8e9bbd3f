"""DPO (Rafailov et al. 2023, arXiv:2305.18290) on TRL's trainer, with LongReward's likelihood term.

loss = -log sigmoid(beta * difference of log-ratios) + sft_weight * NLL(chosen answer). A log-ratio is the sum of
log p over an answer's tokens under the model, minus that under the reference: the base model, which is the model with
its adapter switched off, or a copy when all weights are trained; its sums are computed once for all rows and kept, or
live in every step (training.reference). NLL is TRL's: the mean of -log p over all tokens of
the chosen answers of one forward pass. With training.device_batch_size 1 (the default) that is the mean over the
answer's own tokens, averaged over the batch's pairs; with more, a long answer counts for more than a short one.
"""

from typing import Any

from tasks.training.losses import Loss, LossSetup


def make_trainer(setup: LossSetup) -> Any:
    """A trainer for DPO; with settings.sft_weight > 0 LongReward's sum of two terms."""
    from trl import DPOConfig

    from tasks.training.ready_trainers import PairsDPOTrainer

    weight = setup.settings.sft_weight
    arguments = DPOConfig(
        **setup.arguments,
        beta=setup.settings.beta,
        loss_type=["sigmoid", "sft"] if weight > 0 else ["sigmoid"],
        loss_weights=[1.0, weight] if weight > 0 else [1.0],
        max_length=setup.max_length,  # the default of 1024 cuts, and drops rows without a word
        disable_dropout=False,  # would silence the adapter's own dropout
        precompute_ref_log_probs=setup.reference is not None,
        activation_offloading=setup.settings.offload_activations,
    )
    rest: dict[str, Any] = {
        "model": setup.model,
        "args": arguments,
        "train_dataset": setup.pairs,
        "processing_class": setup.tokenizer,
        "peft_config": setup.adapter,
        "callbacks": list(setup.callbacks),
        "reference": setup.reference,
    }
    if setup.sharing is None:
        return PairsDPOTrainer(**rest)
    from tasks.training.shared_prefix.trainers import SharedDPOTrainer

    return SharedDPOTrainer(sharing=setup.sharing, **rest)


LOSS = Loss("dpo", make_trainer, reference=True)
