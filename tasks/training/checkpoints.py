"""Checkpoints of a run: which is the last complete one, and the progress that belongs to it.

A checkpoint is complete when the file COMPLETE is in it, which is written after all others; a kill in between leaves
a folder without it.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.training.settings import RunFiles

COMPLETE = "longmill-complete"
FOLDER = "checkpoints"  # of a model in the store, with a folder for each step
_ADAPTER_FILES = {"adapter_model.safetensors", "adapter_config.json"}
_MODEL_ENDINGS = {".safetensors", ".json", ".jinja", ".model", ".txt"}  # weights, configuration and tokenizer


def last_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint with the most steps; half-written ones are removed."""
    last: Path | None = None
    last_step = -1
    for path in folder.glob("checkpoint-*"):
        step = path.name.removeprefix("checkpoint-")
        if not (path / COMPLETE).exists() or not step.isdigit():
            shutil.rmtree(path)
        elif int(step) > last_step:
            last, last_step = path, int(step)
    return last


def complete_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, folder) of every complete checkpoint, in the order of the steps."""
    checkpoints: list[tuple[int, Path]] = []
    for path in folder.glob("checkpoint-*"):
        step = path.name.removeprefix("checkpoint-")
        if step.isdigit() and (path / COMPLETE).exists():
            checkpoints.append((int(step), path))
    return sorted(checkpoints)


def remove_resume_state(folder: Path) -> None:
    """Leave a checkpoint's weights alone: a run resumes from the last one, and the optimiser's state is twice as large
    as the weights."""
    for path in folder.iterdir():
        if path.name != COMPLETE and not _is_model_file(path):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def copy_weights(checkpoint: Path, target: Path, adapter: bool) -> None:
    """Link the files of a checkpoint that make a model into `target`, a new folder; nothing that is a pickle."""
    target.mkdir(parents=True)
    for path in sorted(checkpoint.iterdir()):
        if path.name in _ADAPTER_FILES or (not adapter and _is_model_file(path)):
            (target / path.name).hardlink_to(path)


def _is_model_file(path: Path) -> bool:
    return path.suffix in _MODEL_ENDINGS and path.name != "trainer_state.json"


def read_progress(path: Path) -> list[dict[str, Any]]:
    """The steps of a progress file; a last line that was cut off by a kill is left out."""
    if not path.exists():
        return []
    return parse_lines(path.read_text(encoding="utf-8").split("\n")[:-1])


def parse_lines(lines: Sequence[str]) -> list[dict[str, Any]]:
    """Whole lines of a progress file as steps."""
    return [json.loads(line) for line in lines if line]


def rewind(config: RunFiles) -> None:
    """Remove the steps after the checkpoint that the run resumes from from its progress file: they are made again."""
    last_step = int(config.checkpoint.rpartition("-")[2]) if config.checkpoint else 0
    lines: list[str] = []
    for step in read_progress(config.progress):
        if step["step"] <= last_step:
            lines.append(json.dumps(step, sort_keys=True) + "\n")
    config.progress.write_text("".join(lines), encoding="utf-8")
