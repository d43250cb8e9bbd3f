"""Checkpoints of a run: which is the last whole one, and the progress that belongs to it.

A checkpoint counts when its mark is there, which is written after all its files; a kill in between leaves a
folder without it.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.training.settings import RunConfig

COMPLETE = "longmill-complete"


def last_checkpoint(folder: Path) -> Path | None:
    """The whole checkpoint with the most steps; half-written ones are removed."""
    best: tuple[int, Path] | None = None
    for path in folder.glob("checkpoint-*"):
        step = path.name.removeprefix("checkpoint-")
        if not (path / COMPLETE).exists() or not step.isdigit():
            shutil.rmtree(path)
        elif best is None or int(step) > best[0]:
            best = (int(step), path)
    return best[1] if best else None


def read_progress(path: Path) -> list[dict[str, Any]]:
    """The steps of a progress file; a last line that was cut off by a kill is left out."""
    if not path.exists():
        return []
    return parse_lines(path.read_text(encoding="utf-8").split("\n")[:-1])


def parse_lines(lines: Sequence[str]) -> list[dict[str, Any]]:
    """Whole lines of a progress file as steps."""
    return [json.loads(line) for line in lines if line]


def rewind(config: RunConfig) -> None:
    """Forget the steps after the checkpoint that the run resumes from: they are made again."""
    reached = int(config.checkpoint.rpartition("-")[2]) if config.checkpoint else 0
    steps = [step for step in read_progress(config.progress) if step["step"] <= reached]
    config.progress.write_text("".join(json.dumps(step, sort_keys=True) + "\n" for step in steps), encoding="utf-8")
