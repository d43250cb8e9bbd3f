"""Stock and shared trainers over the same tiny model and pairs, every step of both in double precision."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from tests.support.tiny_model import tiny_tokenizer

WORDS = 61
Lengths = Sequence[tuple[int, int, int]]  # prompt, chosen, rejected

LENGTHS: Lengths = ((9, 4, 6), (1, 3, 1), (14, 1, 5))


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


def pair_rows(lengths: Lengths, seed: int = 0) -> list[dict[str, list[int]]]:
    """Random token ids of those lengths."""
    import random

    draw = random.Random(seed)
    return [
        {
            name: [draw.randrange(1, WORDS) for _ in range(length)]
            for name, length in zip(("prompt_ids", "chosen_ids", "rejected_ids"), row, strict=True)
        }
        for row in lengths
    ]


def padded(rows: Sequence[dict[str, list[int]]]) -> dict[str, Any]:
    """TRL's batch of rows."""
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    batch: dict[str, Any] = DataCollatorForPreference(0)(list(rows))
    return batch


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
            found = log_p.gather(-1, labels[:, None])[:, 0]
            top = logits.argmax(-1) == labels
            return found, -(log_p.exp() * log_p).sum(-1).detach(), None, logits.mean(-1).detach(), top

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
    lengths: Lengths = LENGTHS,
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
    from tasks.training.run import _arguments
    from tasks.training.settings import RunConfig
    from tasks.training.shared_prefix.choice import Sharing
    from tasks.training.shared_prefix.cost import Shape

    base = folder / architecture
    if not base.exists():
        random_model(architecture).save_pretrained(base)
    from transformers import AutoModelForCausalLM

    wanted = Training.model_validate(
        {"dtype": "float32", "lora_rank": 3, "lora_dropout": 0.0, "batch_size": len(lengths), **settings}
    )
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64)
    gate = GateLengths(len(lengths), 1, 1, 99, 0, 0, ())
    config = RunConfig(wanted, str(base), "base", False, 5, gate, str(folder), None)
    setup = LossSetup(
        model=model,
        adapter=adapter_config(wanted),
        tokenizer=tiny_tokenizer(),
        pairs=Dataset.from_list(pair_rows(lengths)),
        max_length=99,
        settings=wanted,
        arguments=_arguments(config),
        callbacks=(),
        reference=reference,
        sharing=Sharing(Shape(1, 1, 1), always=True) if shared else None,
    )
    trainer = find_loss(wanted.loss).make_trainer(setup)
    trainer.model.double()
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in trainer.model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.1)
    return trainer


def loss_and_gradients(trainer: Any) -> tuple[float, dict[str, Any], dict[str, Any]]:
    """Of one batch of all the trainer's rows: the loss, the gradient of each trained tensor, and what was logged."""
    if trainer.args.gradient_checkpointing:
        trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
    trainer.model.train()
    batch = trainer.data_collator(list(trainer.train_dataset))
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    gradients = {name: each.grad for name, each in trainer.model.named_parameters() if each.requires_grad}
    logged = getattr(trainer, "_metrics", None) or trainer._stored_metrics
    return float(loss.detach()), gradients, {name: values[-1] for name, values in logged["train"].items()}
