"""Attention over a shared text and calls that follow it, each of which sees that text and itself alone.

What a mask over one long row would compute, without the work that the mask throws away: the shared text is attended to
once, causally, and the calls are a batch whose keys are the shared ones and their own. Registered with transformers
under the name BRANCHED; a model's forward then takes `shared` (tokens) and `calls` (their number, all padded to one
length). For training on a scene; generation uses the model's ordinary attention.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

BRANCHED = "branched"


def attend(
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
    """Attention of (1, heads, shared + calls x own, dimension) each; the result as (1, length, heads, dimension)."""
    first, keys, values = (each[:, :, :shared] for each in (query, key, value))
    text = scaled_dot_product_attention(first, keys, values, is_causal=True, scale=scaling)
    _, heads, length, size = query.shape
    own = (length - shared) // calls

    def parted(states: torch.Tensor) -> torch.Tensor:
        return states[0, :, shared:].reshape(heads, calls, own, size).transpose(0, 1)

    keys, values = (
        torch.cat([states[:, :, :shared].expand(calls, -1, -1, -1), parted(states)], dim=2) for states in (key, value)
    )
    visible = torch.ones(own, shared + own, dtype=torch.bool, device=query.device).tril(shared)
    branches = scaled_dot_product_attention(parted(query), keys, values, attn_mask=visible, scale=scaling)
    joined = branches.transpose(0, 1).reshape(1, heads, calls * own, size)
    return torch.cat([text, joined], dim=2).transpose(1, 2), None


def _no_mask(*_: Any, **__: Any) -> None:
    """What is visible follows from `shared` and `calls`."""


AttentionInterface.register(BRANCHED, attend)
AttentionMaskInterface.register(BRANCHED, _no_mask)
