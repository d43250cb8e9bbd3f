"""Judge lessons as tensors: the scenes of a step, a batch for each.

Every token sees its scene's shared text and its own call alone, at the position it has in the real prompt; `branched`
is the attention that does so. A token of a reply that is one verdict weighs most, of one that is written out less, but
for the words that decide whether there is something to say, and whether there is more. The calls of a kind share these
weights, however many they are. What can be known while a call is read (`Call.told`) has weights of its own.
A batch depends on its seed alone. Leaves out the Prompt's chat template as a template: the special tokens are written
here as the template writes them, and a test holds the two together.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tasks.microworld.judge_lessons import KINDS, Call, Desk, Scene, make_scene
from tasks.microworld.lessons import IGNORED
from tasks.microworld.tokenizer import ASSISTANT, BOS, EOS, USER

# Scenes a step (a fraction: in that share of steps), and calls a scene: about as many tokens as a kind is hard.
PLAN: dict[str, tuple[float, int]] = {
    "helpfulness": (1, 12),
    "logicality": (1.2, 12),
    "quality": (0.4, 8),
    "completeness": (1, 6),
    "facts": (1, 10),
    "support": (1.5, 12),
    "supports": (0.3, 1),
    "notes": (2, 8),
}
FIRST = {"support": (1.0, 48)}  # the plan of the first steps: most verdicts for a token
_DECIDING = 2.0  # what a token weighs that is a verdict, or decides whether there is something to say, or more
_WRITTEN = {"facts": 0.3, "notes": 0.3, "supports": 0.6}  # what the other tokens of such a reply weigh


@dataclass(frozen=True)
class JudgeBatch:
    """One scene as a row: the shared text, then its calls, each padded to the length of the longest. Labels are
    IGNORED where there is no loss; `weights` of all batches of a step together are those of one step."""

    kind: str
    shared: int  # tokens of the shared text
    calls: int
    tokens: torch.Tensor  # (1, shared + calls x own) int64
    labels: torch.Tensor  # as tokens
    weights: torch.Tensor  # as tokens, float32
    replies: torch.Tensor  # as tokens, bool: the label is a reply's
    positions: torch.Tensor  # as tokens


def judge_batches(desk: Desk, seed: str, plan: Mapping[str, tuple[float, int]]) -> list[JudgeBatch]:
    """The lessons of one step: scenes by a plan such as PLAN."""
    rng = random.Random(seed)
    scenes = [
        make_scene(desk, kind, f"{seed}:{number}", calls)
        for kind, (count, calls) in plan.items()
        for number in range(int(count) + (rng.random() < count % 1))
    ]
    return batched(desk.tokenizer, scenes)


def batched(tokenizer: Any, scenes: Sequence[Scene]) -> list[JudgeBatch]:
    """Scenes as batches. The weights of all batches together are those of one step."""
    asked = {kind: sum(len(scene.calls) for scene in scenes if scene.kind == kind) for kind in KINDS}
    return [_laid_out(tokenizer, scene, asked[scene.kind]) for scene in scenes]


def prompt_ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a prompt as the chat template writes it, up to where the reply begins."""
    return _encode(tokenizer, f"{BOS}{USER}{text}{ASSISTANT}")


def _laid_out(tokenizer: Any, scene: Scene, asked: int) -> JudgeBatch:
    """`asked`: calls of this kind in the step, which share the kind's weight."""
    shared = _encode(tokenizer, f"{BOS}{USER}{scene.shared}")
    rows = [_call(tokenizer, scene.kind, call, asked) for call in scene.calls]
    own = max(len(row) for row in rows)
    blank = (tokenizer.pad_token_id, IGNORED, 0.0, False)
    cells = [(token, IGNORED, 0.0, False) for token in shared]
    for row in rows:
        cells += [*row, *[blank] * (own - len(row))]
    tokens, labels, weights, replies = zip(*cells, strict=True)
    positions = [*range(len(shared)), *[*range(len(shared), len(shared) + own)] * len(rows)]
    return JudgeBatch(
        scene.kind,
        len(shared),
        len(rows),
        torch.tensor([tokens]),
        torch.tensor([labels]),
        torch.tensor([weights]),
        torch.tensor([replies]),
        torch.tensor([positions]),
    )


def _call(tokenizer: Any, kind: str, call: Call, asked: int) -> list[tuple[int, int, float, bool]]:
    """The tokens of a call and of its reply, each with its label, the label's weight, and whether it is a reply's."""
    encoded = tokenizer.backend_tokenizer.encode(f"{call.own}{ASSISTANT}", add_special_tokens=False)
    cells = [(token, IGNORED, 0.0, False) for token in encoded.ids]
    for place, word, weight in call.told:
        label, *more = _encode(tokenizer, word)
        if more:  # a broken-off sentence may run on into words that are no name
            continue
        index = next(index for index, (start, _) in enumerate(encoded.offsets) if start == place)
        cells[index] = (encoded.ids[index], label, weight / asked, False)
    reply = _encode(tokenizer, call.reply + EOS)
    deciding = _encode(tokenizer, f"\n{EOS}")
    others = _WRITTEN.get(kind, _DECIDING)
    weights = [_DECIDING if place == 0 or token in deciding else others for place, token in enumerate(reply)]
    return cells + [(token, token, weight / asked, True) for token, weight in zip(reply, weights, strict=True)]


def _encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)
