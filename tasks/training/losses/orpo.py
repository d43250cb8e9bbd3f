"""ORPO (Hong et al. 2024, arXiv:2403.07691) on TRL's trainer, with SeaLong's likelihood term or TRL's own.

A pair's loss is NLL(chosen) + beta * -log sigmoid(log odds(chosen) - log odds(rejected)), where log odds(y) = log p -
log(1 - p) and log p is the mean log-probability of the answer's tokens. With nll_over = "answer" (the paper, SeaLong)
NLL is that mean, negated; with "all" it is TRL's: the mean over all tokens of prompt and answer. A question's loss is
the mean over its pairs, a step's the mean over its questions. The prompt's logits are not kept.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tasks.training.losses import Loss, LossSetup
from tasks.training.shared_prefix.layout import IGNORED

if TYPE_CHECKING:
    import torch

    from tasks.training.trl_seams import StepORPOTrainer


def make_trainer(setup: LossSetup) -> Any:
    """A trainer for ORPO."""
    from trl.experimental.orpo import ORPOConfig

    from tasks.training.trl_seams import StepORPOTrainer

    arguments = ORPOConfig(
        **setup.arguments,
        beta=setup.settings.beta,
        max_length=setup.max_length,  # None would mean 512
        disable_dropout=False,  # would switch off the adapter's own dropout
    )
    return StepORPOTrainer(
        sharing=setup.sharing,
        pass_loss=ORPOLoss(setup.settings.nll_over),
        offload_activations=setup.settings.offload_activations,
        data_collator=setup.collator(arguments),
        **setup.trainer_arguments(arguments),
    )


@dataclass(frozen=True, slots=True)
class ORPOLoss:
    """The loss of a pass; `nll_over` is "answer" (SeaLong) or "all" (TRL)."""

    nll_over: Literal["answer", "all"]

    def __call__(self, trainer: "StepORPOTrainer", model: Any, batch: dict[str, Any]) -> "torch.Tensor":
        from tasks.training.trl_seams import weighted_sum

        chosen, rejected = batch["pairs"].T
        output = trainer.score_tokens(model, batch, self._labels(batch, chosen))
        answers = batch["completion_mask"][:, 1:]
        log_p = _row_means(output.log_probs, answers)
        logits = _row_means(output.mean_logits, answers)
        # TRL's term is beta x log sigmoid of the odds ratio; its rewards are beta x log p.
        odds, chosen_rewards, rejected_rewards, _, _ = trainer.odds_ratio_loss(log_p[chosen], log_p[rejected])
        likelihood = log_p
        if self.nll_over == "all":
            likelihood = _row_means(output.log_probs, batch["attention_mask"][:, 1:])
        nll = -likelihood[chosen]
        trainer.add_to_means(
            batch,
            {
                "rewards/chosen": chosen_rewards,
                "rewards/rejected": rejected_rewards,
                "rewards/margins": chosen_rewards - rejected_rewards,
                "rewards/accuracies": (chosen_rewards > rejected_rewards).float(),
                "logps/chosen": log_p[chosen],
                "logps/rejected": log_p[rejected],
                "logits/chosen": logits[chosen],
                "logits/rejected": logits[rejected],
                "nll_loss": nll,
                "log_odds_ratio": odds / trainer.beta,
            },
        )
        auxiliary = trainer.auxiliary_loss(batch, output, trainer.aux_loss_coef)
        total: torch.Tensor = weighted_sum(batch, nll - odds) + auxiliary
        return total

    def _labels(self, batch: dict[str, Any], chosen: "torch.Tensor") -> "torch.Tensor":
        """The tokens that are scored: of answers, and with "all" of the chosen ones' prompts: [answers, tokens]."""
        from tasks.training.trl_seams import answer_labels

        labels = answer_labels(batch)
        if self.nll_over == "all":
            labels[chosen] = batch["input_ids"][chosen].masked_fill(batch["attention_mask"][chosen] == 0, IGNORED)
        return labels


def _row_means(values: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
    """The mean of each row where `mask` is 1: [answers, tokens] -> [answers]."""
    return (values * mask).sum(dim=1) / mask.sum(dim=1)


LOSS = Loss("orpo", make_trainer)
