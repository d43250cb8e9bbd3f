"""Judge lessons as tensors: the scenes of a step, a row for each, in batches of rows of about equal length.

Every token sees its scene's shared text and its own call alone, at the position it has in the real prompt.
A reply that is one verdict weighs 1, however many brackets stand around it; a reply that is written out weighs a few
tokens, however long it is; every kind of call weighs the same. What can be known of a statement before it is judged
(`Call.told`) weighs a little. A batch depends on its seed alone. Leaves out the Prompt's chat template as a template:
the special tokens are written here as the template writes them, and a test holds the two together.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from infra.microworld.judge_lessons import KINDS, Desk, Scene, make_scene
from infra.microworld.lessons import IGNORED
from infra.microworld.tokenizer import ASSISTANT, BOS, EOS, USER

# Scenes a step, and calls a scene: about as many tokens for each kind as it is hard. Below 1: in that share of steps.
PLAN: dict[str, tuple[float, int]] = {
    "helpfulness": (1, 7),
    "logicality": (1, 10),
    "completeness": (2, 5),
    "facts": (1, 6),
    "support": (1, 14),
    "supports": (0.35, 1),
    "notes": (2, 6),
}
_WRITTEN = {"facts": 4.0, "notes": 6.0, "supports": 3.0}  # what a whole reply of a kind weighs; a verdict weighs 1
_TOLD = 0.5
_FULL = 0.8  # a row goes with longer ones that it fills to this share


@dataclass(frozen=True)
class JudgeBatch:
    """Rows of token ids with labels (IGNORED where there is no loss), the weight of each label in the loss, the
    kind of each label (index into KINDS), positions, and which key each query may see."""

    tokens: torch.Tensor  # (rows, length) int64
    labels: torch.Tensor  # (rows, length) int64
    weights: torch.Tensor  # (rows, length) float32
    kinds: torch.Tensor  # (rows, length) int64, -1 where the label is no reply's
    calls: torch.Tensor  # (rows, length) int64: number of the call within its row, -1 outside of calls
    positions: torch.Tensor  # (rows, length) int64
    visible: torch.Tensor  # (rows, 1, length, length) bool


@dataclass
class _Row:
    """One scene in the making, a list for each of a batch's tensors."""

    tokens: list[int]
    labels: list[int]
    weights: list[float]
    kinds: list[int]
    calls: list[int]
    positions: list[int]

    def add(self, ids: Sequence[int], labels: Sequence[int], weights: Sequence[float], kind: int, call: int) -> None:
        """Append tokens that follow the shared text, or the tokens of the same call; `kind`: of the labels."""
        known = [place for place, each in zip(self.positions, self.calls, strict=True) if each in (-1, call)]
        start = known[-1] + 1 if known else 0
        self.tokens += ids
        self.labels += labels
        self.weights += weights
        self.kinds += [kind] * len(ids)
        self.calls += [call] * len(ids)
        self.positions += range(start, start + len(ids))


def judge_batches(desk: Desk, seed: str, size: float = 1.0) -> list[JudgeBatch]:
    """The lessons of one step: scenes of every kind by PLAN; `size` scales the calls of each scene."""
    rng = random.Random(seed)
    scenes = [
        make_scene(desk, kind, f"{seed}:{number}", max(1, round(calls * size)))
        for kind, (count, calls) in PLAN.items()
        for number in range(int(count) + (rng.random() < count % 1))
    ]
    return batched(desk.tokenizer, scenes)


def batched(tokenizer: Any, scenes: Sequence[Scene]) -> list[JudgeBatch]:
    """Scenes as batches, the longest first. The weights of all batches together are those of one step."""
    asked = {kind: sum(len(scene.calls) for scene in scenes if scene.kind == kind) for kind in KINDS}
    rows = [_laid_out(tokenizer, scene, asked[scene.kind]) for scene in scenes]
    rows.sort(key=lambda row: -len(row.tokens))
    groups: list[list[_Row]] = []
    for row in rows:
        if groups and len(row.tokens) >= _FULL * len(groups[-1][0].tokens):
            groups[-1].append(row)
        else:
            groups.append([row])
    return [_tensors(group) for group in groups]


def prompt_ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a prompt as the chat template writes it, up to where the reply begins."""
    return _encode(tokenizer, f"{BOS}{USER}{text}{ASSISTANT}")


def _laid_out(tokenizer: Any, scene: Scene, asked: int) -> _Row:
    """`asked`: calls of this kind in the step, which share the kind's weight."""
    row = _Row([], [], [], [], [], [])
    shared = _encode(tokenizer, f"{BOS}{USER}{scene.shared}")
    row.add(shared, [IGNORED] * len(shared), [0.0] * len(shared), -1, -1)
    for number, call in enumerate(scene.calls):
        encoded = tokenizer.backend_tokenizer.encode(f"{call.own}{ASSISTANT}", add_special_tokens=False)
        begin, end = call.told
        told = [begin <= first < last <= end for first, last in encoded.offsets]
        labels = [each if known else IGNORED for each, known in zip(encoded.ids, told, strict=True)]
        row.add(encoded.ids, labels, [_TOLD / asked * known for known in told], -1, number)
        reply = _encode(tokenizer, call.reply + EOS)
        weight = _WRITTEN[scene.kind] / len(reply) if scene.kind in _WRITTEN else 1.0
        row.add(reply, reply, [weight / asked] * len(reply), KINDS.index(scene.kind), number)
    return row


def _encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)


def _tensors(rows: Sequence[_Row]) -> JudgeBatch:
    length = max(len(row.tokens) for row in rows)

    def filled(lists: Sequence[Sequence[float]], blank: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.tensor([[*each, *[blank] * (length - len(each))] for each in lists], dtype=dtype)

    calls = filled([row.calls for row in rows], -1, torch.long)
    own_call = (calls[:, None, :] == -1) | (calls[:, :, None] == calls[:, None, :])
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return JudgeBatch(
        filled([row.tokens for row in rows], 0, torch.long),
        filled([row.labels for row in rows], IGNORED, torch.long),
        filled([row.weights for row in rows], 0, torch.float32),
        filled([row.kinds for row in rows], -1, torch.long),
        calls,
        filled([row.positions for row in rows], 0, torch.long),
        (own_call & causal)[:, None],
    )
