"""What the trainers of policy and judge share: the rate's course, the running average, the checkpoint and the log.

A checkpoint holds weights, their running average and the optimizer, and appears whole or not at all.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

LOG = "log.jsonl"
_CHECKPOINT = "checkpoint.pt"


def rate_share(step: int, done: float) -> float:
    """Share of the highest rate: 100 steps of warm-up, then a cosine to a twentieth; `done` is the share of the run."""
    return min(1.0, (step + 1) / 100) * (0.05 + 0.475 * (1 + math.cos(math.pi * min(done, 1.0))))


@torch.no_grad()
def add_to_average(average: Any, model: Any, step: int) -> None:
    """Move the running average towards the model's weights after a step."""
    weight = max(0.01, 1 / (step + 1))
    for kept, new in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(new, weight)


def save(work: Path, model: Any, average: Any, optimizer: Any, step: int, seconds: float) -> None:
    """Write the checkpoint of the run in `work` after so many steps and seconds."""
    state = {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
    path = work / _CHECKPOINT
    partial = path.with_suffix(".partial")
    torch.save({**state, "step": step, "seconds": seconds}, partial)
    partial.replace(path)


def resume(work: Path, model: Any, average: Any, optimizer: Any) -> tuple[int, float]:
    """Load the checkpoint, if there is one; the steps and seconds that are done."""
    path = work / _CHECKPOINT
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"]), float(state["seconds"])


def log(work: Path, **values: Any) -> None:
    """Add a line of JSON to the run's log."""
    with (work / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")
