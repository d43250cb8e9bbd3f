"""What follows from the training settings alone: the run's configuration file and the arithmetic of steps.

`RunConfig` is all that the subprocess reads besides the encoded rows; it is written as JSON. Leaves out: anything that
needs torch.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infra.errors import RecipeError
from infra.recipe import Training, TrainingRun
from tasks.training.gate import Lengths
from tasks.training.mixing import MixSummary


class RunFiles:
    """The files of a run, and what every run has. Folders are absolute; `base` is a folder or hub name that can be
    loaded, `checkpoint` the one to resume from."""

    __slots__ = ()
    folder: str
    settings: TrainingRun
    base: str
    seed: int
    checkpoint: str | None

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints go, as checkpoint-STEP."""
        return Path(self.folder) / "checkpoints"

    @property
    def output(self) -> Path:
        """Where the trained weights go."""
        return Path(self.folder) / "output"

    @property
    def progress(self) -> Path:
        """One JSON object per optimiser step."""
        return Path(self.folder) / "progress.jsonl"

    @property
    def error(self) -> Path:
        """The message of a deliberate error, when there was one."""
        return Path(self.folder) / "error.txt"

    @property
    def rows(self) -> int:
        """Questions that are trained on."""
        raise NotImplementedError

    def dump(self) -> str:
        """As JSON text."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class RunConfig(RunFiles):
    """One run of the subprocess that trains a policy."""

    settings: Training
    base: str
    base_name: str  # what an adapter says it belongs to
    trust_remote_code: bool
    seed: int
    lengths: Lengths
    folder: str
    checkpoint: str | None  # to resume from
    mix: MixSummary | None = None  # what of the rows is short-context
    reference: str | None = None  # the store's file of reference log-probabilities; None computes them in each step

    @property
    def rows(self) -> int:
        """Questions that are trained on."""
        return self.lengths.rows

    @property
    def pairs(self) -> Path:
        """The encoded questions: an Arrow stream of prompt_ids, answers and pairs."""
        return Path(self.folder) / "pairs.arrow"

    @property
    def reference_rows(self) -> Path:
        """The reference's log-probabilities computed so far: a JSON list of rows per line."""
        return Path(self.folder) / "reference.jsonl"

    def dump(self) -> str:
        """As JSON text."""
        return json.dumps(asdict(self) | {"settings": self.settings.model_dump(mode="json")}, indent=1)

    @staticmethod
    def load(text: str) -> "RunConfig":
        """From JSON text."""
        raw: dict[str, Any] = json.loads(text)
        raw["settings"] = Training.model_validate(raw["settings"])
        raw["lengths"] = Lengths.from_json(raw["lengths"])
        raw["mix"] = MixSummary(**raw["mix"]) if raw["mix"] else None
        return RunConfig(**raw)


def accumulation(settings: TrainingRun) -> int:
    """Forward passes per optimiser step and device, unpacked. Raises RecipeError when the batch cannot be split so."""
    rows_at_once = settings.device_batch_size * settings.processes
    if settings.batch_size % rows_at_once:
        raise RecipeError(
            f"{settings.section}.batch_size = {settings.batch_size} is not a multiple of "
            f"device_batch_size x processes = {settings.device_batch_size} x {settings.processes}; change one of them"
        )
    return settings.batch_size // rows_at_once


def result_text(result: Mapping[str, Any]) -> str:
    """result.json of a job."""
    return json.dumps(result, indent=1, sort_keys=True) + "\n"


def check_run_settings(settings: TrainingRun) -> None:
    """Raises RecipeError for a batch, a schedule or a configuration of accelerate that would fail later."""
    from transformers import SchedulerType

    section = settings.section
    accumulation(settings)
    schedules = [schedule.value for schedule in SchedulerType]
    if settings.schedule not in schedules:
        raise RecipeError(
            f"{settings.section}.schedule: there is no {settings.schedule!r}; there are: {', '.join(schedules)}"
        )
    if settings.accelerate_config and not Path(settings.accelerate_config).exists():
        raise RecipeError(f"{section}.accelerate_config: {settings.accelerate_config} does not exist")


def steps_of_epoch(settings: TrainingRun, rows: int) -> int:
    """Optimiser steps of one pass over `rows` questions, as transformers' Trainer counts them."""
    passes = math.ceil(math.ceil(rows / settings.processes) / settings.device_batch_size)
    return math.ceil(passes / accumulation(settings))


def planned_steps(settings: TrainingRun, rows: int) -> int:
    """Optimiser steps of a run over `rows` questions: those of `epochs`, but `max_steps` at most."""
    steps = math.ceil(settings.epochs * steps_of_epoch(settings, rows))
    return steps if settings.max_steps is None else min(steps, settings.max_steps)


def epochs_of(settings: TrainingRun, rows: int, steps: int) -> float:
    """How many passes over `rows` questions so many steps are; 0 without a row."""
    return round(steps / steps_of_epoch(settings, rows), 4) if rows else 0.0


def epochs_in_words(epochs: float) -> str:
    """As "1 epoch", "0.32 epochs"."""
    return f"{epochs:.4g} epoch{'' if epochs == 1 else 's'}"


def steps_argument(settings: TrainingRun, rows: int) -> int:
    """transformers' `max_steps`, which overrides its epochs: -1 where the epochs end before `training.max_steps`."""
    steps = planned_steps(settings, rows)
    return steps if steps == settings.max_steps else -1


def precomputes_reference(settings: Training, rows: int) -> bool:
    """Whether a loss with a reference computes it for all rows before training: `auto` does when every row is
    trained on."""
    if settings.reference == "auto":
        return planned_steps(settings, rows) * settings.batch_size >= rows
    return settings.reference == "kept"


def warmup_steps(settings: TrainingRun, rows: int) -> int:
    """Steps of warm-up. At least one step is left with a learning rate above zero."""
    steps = planned_steps(settings, rows)
    return min(math.ceil(settings.warmup * steps), steps - 1)


def quarter_means(losses: Sequence[float]) -> tuple[float, float]:
    """Mean of the first and of the last quarter of the losses, of at least one step each."""
    size = max(1, len(losses) // 4)
    return sum(losses[:size]) / size, sum(losses[-size:]) / size
