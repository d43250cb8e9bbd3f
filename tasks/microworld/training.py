"""What the trainings of policy and judge share: learning rate, running average, checkpoint, log and replies.

A checkpoint holds the weights, their running average and the optimizer; it appears completely or not at all.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

LOG = "log.jsonl"
_CHECKPOINT = "checkpoint.pt"
_WARM_UP = 100  # steps
_MIN_AVERAGE_WEIGHT = 0.01


def learning_rate_share(step: int, progress: float) -> float:
    """Share of the highest learning rate: 100 steps of warm-up, then a cosine down to a twentieth.

    `progress`: the share of the run that is done.
    """
    cosine = 1 + math.cos(math.pi * min(progress, 1.0))
    return min(1.0, (step + 1) / _WARM_UP) * (0.05 + 0.475 * cosine)


@torch.no_grad()
def update_average(average: Any, model: Any, step: int) -> None:
    """Move the running average towards the model's weights after a step."""
    weight = max(_MIN_AVERAGE_WEIGHT, 1 / (step + 1))
    for average_parameter, parameter in zip(average.parameters(), model.parameters(), strict=True):
        average_parameter.lerp_(parameter, weight)


def save_checkpoint(work: Path, model: Any, average: Any, optimizer: Any, step: int, seconds: float) -> None:
    """Write the checkpoint of the run in `work` after so many steps and seconds."""
    state = {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
    path = work / _CHECKPOINT
    partial = path.with_suffix(".partial")
    torch.save({**state, "step": step, "seconds": seconds}, partial)
    partial.replace(path)


def load_checkpoint(work: Path, model: Any, average: Any, optimizer: Any) -> tuple[int, float]:
    """Load the checkpoint, if there is one. Returns the steps and the seconds that are done."""
    path = work / _CHECKPOINT
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"]), float(state["seconds"])


def write_log(work: Path, **values: Any) -> None:
    """Add a line of JSON to the log of the run."""
    with (work / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


@torch.no_grad()
def generate_replies(
    model: Any,
    tokenizer: Any,
    chats: Sequence[list[int]],
    max_tokens: int,
    samples: int = 1,
    temperature: float | None = None,
) -> list[list[str]]:
    """So many replies to each chat (token ids), of at most `max_tokens` tokens; greedy without a temperature."""
    length = max(map(len, chats))
    pad = tokenizer.pad_token_id
    rows = []
    for chat in chats:
        rows.append([pad] * (length - len(chat)) + chat)
    tokens = torch.tensor(rows).to(model.device)
    options: dict[str, Any] = {"do_sample": False}
    if temperature is not None:
        options = {"do_sample": True, "temperature": temperature, "top_k": 0}
    output = model.generate(
        tokens,
        attention_mask=(tokens != pad).long(),
        max_new_tokens=max_tokens,
        pad_token_id=pad,
        num_return_sequences=samples,
        **options,
    )
    texts = tokenizer.batch_decode(output[:, length:], skip_special_tokens=True)
    return [texts[start : start + samples] for start in range(0, len(texts), samples)]


def generation_config(tokenizer: Any) -> GenerationConfig:
    """The generation settings of a model in the box: its special tokens and nothing else."""
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )


def machine() -> str:
    """The machine of the training in words, for the card."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"{torch.get_num_threads()} threads of a {platform.machine()} CPU"
