"""The judge's lessons as tensors: one row for each call group, and the attention that keeps its calls apart.

Every token sees the shared text of its group and its own call alone, at the position that it has in the real prompt.
`branched_attention` computes what a mask over the long row would, without the work that the mask would throw away: the
shared text attends to itself once, causally; the calls are a batch whose keys are those of the shared text and their
own. It is registered with transformers under the name BRANCHED; the model's forward then takes `shared` (tokens) and
`calls` (their number, all padded to one length). It is for training; generation uses the model's ordinary attention.

A token of a reply that is a verdict has the highest weight; a token of a longer text has less, except those that decide
whether there is something to say, and whether there is more. Predictions have a weight of their own. The special tokens
are written here as the chat template writes them; a test compares the two. A batch depends on its seed alone.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from tasks.microworld.judge_lessons import KINDS, CallGroup, LessonCall, LessonSettings, make_call_group
from tasks.microworld.policy_lessons import IGNORED
from tasks.microworld.tokenizer import ASSISTANT, BOS, EOS, USER, encode

BRANCHED = "branched"

# For each kind: groups in a step (a fraction is the share of steps that have one more), and calls in a group. The
# harder a kind is, the more of a step's tokens it gets.
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
FIRST_PLAN = {"support": (1.0, 48)}  # the plan of the first steps: as many verdicts for a token as possible

_PREDICTION_WEIGHT = 1.0
_VERDICT_WEIGHT = 2.0  # of a token that is a verdict, or that decides whether there is something to say, or more
_TEXT_WEIGHT = {"facts": 0.3, "notes": 0.3, "supports": 0.6}  # of the other tokens of such a reply


@dataclass(frozen=True)
class JudgeBatch:
    """One call group as a row: the shared text, then its calls, each padded to the length of the longest call.

    Labels are IGNORED where there is no loss. The weights of all batches of a step belong together.
    """

    kind: str
    shared: int  # tokens of the shared text
    calls: int
    tokens: torch.Tensor  # (1, shared + calls x longest call) int64
    labels: torch.Tensor  # same shape
    weights: torch.Tensor  # same shape, float32
    replies: torch.Tensor  # same shape, bool: True for labels of a reply, False for labels of predictions
    positions: torch.Tensor  # same shape


class _LabelledToken(NamedTuple):
    """A token, its label (IGNORED: no loss), the weight of the label, and whether it belongs to a reply."""

    token: int
    label: int = IGNORED
    weight: float = 0.0
    is_reply: bool = False


def judge_batches(settings: LessonSettings, seed: str, plan: Mapping[str, tuple[float, int]]) -> list[JudgeBatch]:
    """The lessons of one step: call groups by a plan such as PLAN."""
    rng = random.Random(seed)
    groups = []
    for kind, (count, calls) in plan.items():
        has_one_more = rng.random() < count % 1
        for number in range(int(count) + has_one_more):
            groups.append(make_call_group(settings, kind, f"{seed}:{number}", calls))
    return batch_groups(settings.tokenizer, groups)


def batch_groups(tokenizer: Any, groups: Sequence[CallGroup]) -> list[JudgeBatch]:
    """The call groups of one step as batches. The calls of a kind share its weight, however many they are."""
    calls_by_kind = dict.fromkeys(KINDS, 0)
    for group in groups:
        calls_by_kind[group.kind] += len(group.calls)
    batches = []
    for group in groups:
        batches.append(_batch_group(tokenizer, group, calls_by_kind[group.kind]))
    return batches


def prompt_tokens(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a prompt as the chat template writes it, up to where the reply begins."""
    return encode(tokenizer, f"{BOS}{USER}{text}{ASSISTANT}")


def branched_attention(
    _: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    __: Any,
    *,
    scaling: float,
    shared: int,
    calls: int,
    **___: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over one row of a shared text and `calls` calls of equal length.

    `query`, `key` and `value` are (1, heads, shared + calls x own, dimension); the result is (1, length, heads,
    dimension). `shared`: tokens of the shared text.
    """
    shared_keys, shared_values = key[:, :, :shared], value[:, :, :shared]
    shared_output = scaled_dot_product_attention(
        query[:, :, :shared], shared_keys, shared_values, is_causal=True, scale=scaling
    )
    _, heads, length, dimension = query.shape
    own = (length - shared) // calls

    def by_call(states: torch.Tensor) -> torch.Tensor:
        """The part of the calls as (calls, heads, own, dimension)."""
        return states[0, :, shared:].reshape(heads, calls, own, dimension).transpose(0, 1)

    keys = torch.cat([shared_keys.expand(calls, -1, -1, -1), by_call(key)], dim=2)
    values = torch.cat([shared_values.expand(calls, -1, -1, -1), by_call(value)], dim=2)
    visible = torch.ones(own, shared + own, dtype=torch.bool, device=query.device).tril(shared)
    call_output = scaled_dot_product_attention(by_call(query), keys, values, attn_mask=visible, scale=scaling)
    call_output = call_output.transpose(0, 1).reshape(1, heads, calls * own, dimension)
    return torch.cat([shared_output, call_output], dim=2).transpose(1, 2), None


def _no_mask(*_: Any, **__: Any) -> None:
    """What is visible follows from `shared` and `calls`."""


def _batch_group(tokenizer: Any, group: CallGroup, calls_of_kind: int) -> JudgeBatch:
    """`calls_of_kind`: calls of this kind in the whole step, which share the kind's weight."""
    shared = list(map(_LabelledToken, encode(tokenizer, f"{BOS}{USER}{group.shared}")))
    calls = []
    for call in group.calls:
        calls.append(_call_tokens(tokenizer, group.kind, call, calls_of_kind))
    longest = max(map(len, calls))
    row = list(shared)
    positions = list(range(len(shared)))
    for call_tokens in calls:
        row += call_tokens + [_LabelledToken(tokenizer.pad_token_id)] * (longest - len(call_tokens))
        positions += range(len(shared), len(shared) + longest)
    tokens, labels, weights, replies = zip(*row, strict=True)
    return JudgeBatch(
        group.kind,
        len(shared),
        len(calls),
        torch.tensor([tokens]),
        torch.tensor([labels]),
        torch.tensor([weights]),
        torch.tensor([replies]),
        torch.tensor([positions]),
    )


def _call_tokens(tokenizer: Any, kind: str, call: LessonCall, calls_of_kind: int) -> list[_LabelledToken]:
    """The tokens of a call's own text and of its reply, with their labels."""
    encoded = tokenizer.backend_tokenizer.encode(f"{call.own}{ASSISTANT}", add_special_tokens=False)
    row = list(map(_LabelledToken, encoded.ids))
    starts = [start for start, _ in encoded.offsets]
    for prediction in call.predictions:
        word_tokens = encode(tokenizer, prediction.word)
        if len(word_tokens) == 1:  # a sentence that breaks off may run on into words that are no single name
            index = starts.index(prediction.position)
            row[index] = _LabelledToken(encoded.ids[index], word_tokens[0], _PREDICTION_WEIGHT / calls_of_kind)
    deciding_tokens = encode(tokenizer, f"\n{EOS}")
    for index, token in enumerate(encode(tokenizer, call.reply + EOS)):
        weight = _TEXT_WEIGHT.get(kind, _VERDICT_WEIGHT)
        if index == 0 or token in deciding_tokens:
            weight = _VERDICT_WEIGHT
        row.append(_LabelledToken(token, token, weight / calls_of_kind, is_reply=True))
    return row


AttentionInterface.register(BRANCHED, branched_attention)
AttentionMaskInterface.register(BRANCHED, _no_mask)
