"""Judged questions as token ids: the prompt once, each answer, its scores; every answer is used or a counted drop.

An answer that is longer than the model reads, or than `reward_training.max_length`, is dropped and never cut. Scores
are written to disk as they are; a head's mean and spread over the training answers scale its loss.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.errors import BalanceError, TrainingError
from infra.recipe import RewardTraining
from tasks.judging.classifier_input import common_prefix
from tasks.judging.reward_input import RewardEncoder
from tasks.training.gate import PairsFile
from tasks.training.reward.judged import JudgedData, RewardAnswer, RewardQuestion
from tasks.training.reward.settings import Head

_IDS = pa.list_(pa.int32())
SCHEMA = pa.schema(
    [
        pa.field("example_id", pa.string(), False),
        pa.field("context_id", pa.string(), False),
        pa.field("prompt_ids", _IDS, False),
        pa.field("answers", pa.list_(_IDS), False),
        pa.field("samples", _IDS, False),
        pa.field("scores", pa.list_(pa.list_(pa.float64())), False),
        pa.field("rewards", pa.list_(pa.float64()), False),
    ]
)


@dataclass(frozen=True, slots=True)
class JudgedTree:
    """Token ids of a question and its answers, with their scores by head and their rewards."""

    example_id: str
    context_id: str
    prompt_ids: list[int]
    answers: list[list[int]]
    samples: list[int]
    scores: list[tuple[float | None, ...]]
    rewards: list[float | None]

    @property
    def longest(self) -> int:
        """Tokens of the prompt with its longest answer."""
        return len(self.prompt_ids) + max(map(len, self.answers))


@dataclass(frozen=True, slots=True)
class SideCounts:
    """Of the training or the test side: questions and contexts, answers, tokens (a prompt counts once), longest row."""

    questions: int = 0
    contexts: int = 0
    answers: int = 0
    tokens: int = 0
    longest: int = 0


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """What was written to a run's folder. `drops` counts answers by reason: read = train + test + drops."""

    train: SideCounts
    test: SideCounts
    drops: dict[str, int]
    heads: tuple[Head, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> "EncodedRows":
        """The inverse of `to_json`."""
        heads = tuple(Head(**head) for head in value["heads"])
        return EncodedRows(SideCounts(**value["train"]), SideCounts(**value["test"]), value["drops"], heads)


def encode_rows(
    data: JudgedData, encoder: RewardEncoder, settings: RewardTraining, longest: int, folder: Path
) -> EncodedRows:
    """Write `train.arrow` and `test.arrow` with rows of up to `longest` tokens; what was written before stays.

    Raises TrainingError when nothing is left to train on, or more than half of the answers are too long.
    """
    path = folder / "rows.json"
    if path.exists():
        return EncodedRows.from_json(json.loads(path.read_text(encoding="utf-8")))
    data.check()
    drops: Counter[str] = Counter()
    tallies = {"train": _Tally(), "test": _Tally()}
    heads = _HeadTally(len(data.heads))
    read = 0
    with PairsFile(folder / "train.arrow", SCHEMA) as train, PairsFile(folder / "test.arrow", SCHEMA) as test:
        files = {"train": train, "test": test}
        for question in data.questions(drops):
            read += len(question.answers)
            tree = _encode(question, encoder, longest, settings.objective == "pairwise", drops)
            if tree is None:
                continue
            files[question.split].add(tree)
            tallies[question.split].add(tree)
            if question.split == "train":
                heads.add(tree.scores)
    early = drops["no_text"] + drops["no_score"] + drops["no_context"]
    used = tallies["train"].answers + tallies["test"].answers
    if read != used + drops.total() - early:
        raise BalanceError(f"{read} judged answers were read, but {used} are used and {drops.total() - early} dropped")
    _check_amounts(tallies["train"], drops, read, longest)
    encoded = EncodedRows(
        tallies["train"].counts(), tallies["test"].counts(), dict(sorted(drops.items())), heads.heads(data.heads)
    )
    path.write_text(json.dumps(encoded.to_json()), encoding="utf-8")
    return encoded


def _encode(
    question: RewardQuestion, encoder: RewardEncoder, longest: int, pairwise: bool, drops: Counter[str]
) -> JudgedTree | None:
    """The tree of a question, with those of its answers that fit; None where there is nothing to learn."""
    rows = encoder.rows(question.prompt, [answer.text for answer in question.answers])
    fitting: list[tuple[RewardAnswer, list[int]]] = []
    for answer, row in zip(question.answers, rows, strict=True):
        if len(row) <= longest:
            fitting.append((answer, row))
        else:
            drops["too_long"] += 1
    if not fitting:
        return None
    if pairwise and len({answer.reward for answer, _ in fitting}) < 2:
        drops["no_pair"] += len(fitting)
        return None
    start = common_prefix([row for _, row in fitting])
    if start == 0:
        drops["no_common_prompt"] += len(fitting)
        return None
    return JudgedTree(
        question.example_id,
        question.context_id,
        fitting[0][1][:start],
        [row[start:] for _, row in fitting],
        [answer.sample_index for answer, _ in fitting],
        [answer.scores for answer, _ in fitting],
        [answer.reward for answer, _ in fitting],
    )


def _check_amounts(train: "_Tally", drops: Counter[str], read: int, longest: int) -> None:
    if drops["too_long"] > read // 2:
        raise TrainingError(
            f"{drops['too_long']} of {read} judged answers are longer than {longest} tokens with their prompt, more "
            "than half; set reward_training.max_length higher, or train a base model that reads more"
        )
    if not train.questions:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(drops.items())) or "there are none"
        raise TrainingError(f"no judged answer is left to train on ({reasons}); give another dataset")


@dataclass
class _Tally:
    """Counts the trees of a side."""

    questions: int = 0
    answers: int = 0
    tokens: int = 0
    longest: int = 0
    contexts: set[str] = field(default_factory=set)

    def add(self, tree: JudgedTree) -> None:
        self.questions += 1
        self.answers += len(tree.answers)
        self.tokens += len(tree.prompt_ids) + sum(map(len, tree.answers))
        self.longest = max(self.longest, tree.longest)
        self.contexts.add(tree.context_id)

    def counts(self) -> SideCounts:
        return SideCounts(self.questions, len(self.contexts), self.answers, self.tokens, self.longest)


class _HeadTally:
    """Sums of each head's scores, for their means and spreads."""

    def __init__(self, heads: int) -> None:
        self._sums = [(0, 0.0, 0.0)] * heads

    def add(self, scores: Iterable[tuple[float | None, ...]]) -> None:
        for of_answer in scores:
            for place, score in enumerate(of_answer):
                if score is not None:
                    count, total, squares = self._sums[place]
                    self._sums[place] = count + 1, total + score, squares + score * score

    def heads(self, names: Iterable[str]) -> tuple[Head, ...]:
        heads = []
        for name, (count, total, squares) in zip(names, self._sums, strict=True):
            mean = total / count if count else 0.0
            spread = math.sqrt(max(0.0, squares / count - mean * mean)) if count else 0.0
            heads.append(Head(name, count, mean, spread if spread > 1e-6 else 1.0))
        return tuple(heads)
