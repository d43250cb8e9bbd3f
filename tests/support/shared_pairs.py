"""Trainers over the same tiny model and questions, sharing or not, beside TRL's own losses; all in double precision."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from tests.support.tiny_model import tiny_tokenizer

WORDS = 61
Shape = tuple[int, tuple[int, ...], tuple[tuple[int, int], ...]]  # tokens of prompt and answers, and the pairs


def pair(prompt: int, chosen: int, rejected: int) -> Shape:
    """A tree of two answers and one pair."""
    return prompt, (chosen, rejected), ((0, 1),)


PAIRS: Sequence[Shape] = (pair(9, 4, 6), pair(1, 3, 1), pair(14, 1, 5))
TREES: Sequence[Shape] = (
    (9, (4, 6, 3, 5), ((0, 1), (0, 2), (3, 1), (3, 2), (0, 3))),
    pair(1, 3, 1),
    (14, (1, 5, 2), ((2, 0), (1, 0))),
)


def random_model(architecture: str = "llama", **changes: Any) -> Any:
    """A causal language model with random weights and grouped key heads, in float64."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    torch.manual_seed(1)
    settings: dict[str, Any] = {
        "vocab_size": WORDS,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 4,
        "max_position_embeddings": 128,
        "initializer_range": 0.3,
        "pad_token_id": 0,
        "attn_implementation": "sdpa",
    }
    return AutoModelForCausalLM.from_config(CONFIG_MAPPING[architecture](**settings | changes)).double()


def tree_rows(shapes: Sequence[Shape], seed: int = 0) -> list[dict[str, Any]]:
    """Encoded questions of those lengths, with random token ids."""
    import random

    draw = random.Random(seed)

    def ids(length: int) -> list[int]:
        return [draw.randrange(1, WORDS) for _ in range(length)]

    rows: list[dict[str, Any]] = []
    for prompt, answers, pairs in shapes:
        rows.append(
            {
                "prompt_ids": ids(prompt),
                "answers": [ids(length) for length in answers],
                "pairs": [list(pair) for pair in pairs],
            }
        )
    return rows


def one_pass(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The questions padded together."""
    from tasks.training.passes import StepCollator

    (batch,) = StepCollator(0, len(rows))(rows)["passes"]
    return dict(batch)


@contextmanager
def double_precision() -> Iterator[None]:
    """TRL's head, the models' norms and ORPO's odds, which compute in float32, compute in float64 instead."""
    import torch
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

    class Head:
        @staticmethod
        def apply(hidden: Any, weight: Any, bias: Any, labels: Any, *_: Any) -> tuple[Any, ...]:
            logits = hidden @ weight.T
            log_p = logits.log_softmax(-1)
            log_probs = log_p.gather(-1, labels[:, None])[:, 0]
            top = logits.argmax(-1) == labels
            return log_probs, -(log_p.exp() * log_p).sum(-1).detach(), None, logits.mean(-1).detach(), top

    def norm(self: Any, hidden: Any) -> Any:
        return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    def single(self: Any) -> Any:
        return self if self.dtype == torch.float64 else self.to(torch.float32)

    with (
        mock.patch.object(torch.Tensor, "float", single),
        mock.patch("trl.trainer.utils._ChunkedLogProbFunction", Head),
        mock.patch.object(LlamaRMSNorm, "forward", norm),
        mock.patch.object(Qwen2RMSNorm, "forward", norm),
    ):
        yield


def make_trainer(
    folder: Any,
    *,
    shared: bool,
    architecture: str = "llama",
    shapes: Sequence[Shape] = PAIRS,
    reference: Any = None,
    **settings: Any,
) -> Any:
    """The trainer that the recipe's settings make, with weights away from the reference's, in float64."""
    import torch
    from datasets import Dataset

    from infra.recipe import Training
    from tasks.training.base import adapter_config
    from tasks.training.gate import Lengths as GateLengths
    from tasks.training.losses import LossSetup, find_loss
    from tasks.training.run import trainer_arguments
    from tasks.training.settings import RunConfig
    from tasks.training.shared_prefix.cost import ModelCost, SharingRule

    base = folder / architecture
    if not base.exists():
        random_model(architecture).save_pretrained(base)
    from transformers import AutoModelForCausalLM

    training = Training.model_validate(
        {"dtype": "float32", "lora_rank": 3, "lora_dropout": 0.0, "batch_size": len(shapes), **settings}
    )
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64)
    gate = GateLengths(len(shapes), 1, 1, 99, 0, 0, (), len(shapes))
    config = RunConfig(training, str(base), "base", False, 5, gate, str(folder), None)
    setup = LossSetup(
        model=model,
        adapter=adapter_config(training),
        tokenizer=tiny_tokenizer(),
        pairs=Dataset.from_list(tree_rows(shapes)),
        max_length=99,
        settings=training,
        arguments=trainer_arguments(config),
        callbacks=(),
        reference=reference,
        sharing=SharingRule(ModelCost(1, 1, 1), always=True) if shared else None,
    )
    trainer = find_loss(training.loss).make_trainer(setup)
    trainer.model.double()
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in trainer.model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.1)
    return trainer


def loss_and_gradients(trainer: Any) -> tuple[float, dict[str, Any], dict[str, Any]]:
    """Of one step over all the trainer's rows: the loss, the gradient of each trained tensor, and what was logged."""
    start(trainer)
    passes = trainer.data_collator(list(trainer.train_dataset))["passes"]
    loss = sum(float(_backward(trainer.compute_loss(trainer.model, batch))) for batch in passes)
    return loss, _gradients(trainer), {name: float(value) for name, value in trainer.step_means.items()}


def start(trainer: Any) -> None:
    """As before a step."""
    if trainer.args.gradient_checkpointing:
        trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
    trainer.model.train()
    trainer.model.zero_grad()


def trl_loss_and_gradients(trainer: Any, settings: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    """The mean over questions of the mean over a question's pairs of TRL's own loss, each pair alone in its batch."""
    start(trainer)
    total, rows = 0.0, list(trainer.train_dataset)
    for row in rows:
        for chosen, rejected in row["pairs"]:
            loss = _trl_loss(trainer, settings, row["prompt_ids"], row["answers"][chosen], row["answers"][rejected])
            total += float(_backward(loss / len(rows) / len(row["pairs"])))
    return total, _gradients(trainer)


def _trl_loss(trainer: Any, settings: Mapping[str, Any], prompt: Any, chosen: Any, rejected: Any) -> Any:
    import torch
    from trl import DPOTrainer
    from trl.experimental.orpo import ORPOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    if settings["loss"] == "dpo":
        weight = settings.get("sft_weight", 0.0)
        trainer.loss_types, trainer.loss_weights = ["sigmoid", "sft"], [1.0, weight]
        batch = DataCollatorForPreference(0)([{"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}])
        return DPOTrainer._compute_loss(trainer, trainer.model, batch, False)
    batch = {}
    for side, answer in (("chosen", chosen), ("rejected", rejected)):
        batch[f"{side}_input_ids"] = torch.tensor([prompt + answer])
        batch[f"{side}_attention_mask"] = torch.ones(1, len(prompt) + len(answer), dtype=torch.long)
        batch[f"{side}_labels"] = torch.tensor([[-100] * len(prompt) + answer])
    if settings.get("nll_over") == "all":
        return ORPOTrainer.get_batch_loss_metrics(trainer, trainer.model, batch)[0]
    good, bad, *_ = ORPOTrainer.concatenated_forward(trainer, trainer.model, batch)  # the paper's NLL is no TRL loss
    return -good.mean() - trainer.odds_ratio_loss(good, bad)[0].mean()


def _backward(loss: Any) -> Any:
    loss.backward()
    return loss.detach()


def _gradients(trainer: Any) -> dict[str, Any]:
    return {
        name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters() if parameter.requires_grad
    }
