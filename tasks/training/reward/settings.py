"""What the subprocess of a reward model's training reads, besides the encoded rows; written as JSON."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infra.recipe import RewardTraining
from tasks.training.settings import RunFiles


@dataclass(frozen=True, slots=True)
class Head:
    """A head of the model: what it learns, how many training answers have such a score, their mean and spread."""

    name: str
    scores: int
    mean: float
    spread: float


@dataclass(frozen=True, slots=True)
class RewardRun(RunFiles):
    """One run of the subprocess that trains a reward model."""

    settings: RewardTraining
    base: str
    base_name: str
    trust_remote_code: bool
    seed: int
    folder: str
    checkpoint: str | None
    questions: int
    answers: int
    longest: int  # tokens of the longest prompt with an answer, held-out ones included
    heads: tuple[Head, ...]

    @property
    def rows(self) -> int:
        """Questions that are trained on."""
        return self.questions

    @property
    def train_rows(self) -> Path:
        """The encoded questions to train on."""
        return Path(self.folder) / "train.arrow"

    @property
    def test_rows(self) -> Path:
        """The encoded questions to measure on."""
        return Path(self.folder) / "test.arrow"

    @property
    def scored(self) -> Path:
        """The trained model's scores of the held-out answers: a JSON object for each question."""
        return Path(self.folder) / "scored.jsonl"

    def dump(self) -> str:
        """As JSON text."""
        return json.dumps(asdict(self) | {"settings": self.settings.model_dump(mode="json")}, indent=1)

    @staticmethod
    def load(text: str) -> "RewardRun":
        """From JSON text."""
        raw: dict[str, Any] = json.loads(text)
        raw["settings"] = RewardTraining.model_validate(raw["settings"])
        raw["heads"] = tuple(Head(**head) for head in raw["heads"])
        return RewardRun(**raw)
