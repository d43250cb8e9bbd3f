"""The attention of the shared layout, registered with transformers under a name of its own.

Each segment is one call of scaled_dot_product_attention: the prompt with its first answer is plainly causal, a
further answer sees the prompt's keys and its own (aligned to the lower right). No mask has more than answer x
(prompt + answer) places, and one mask serves all layers; on a GPU none is built where flash attention can be used,
and memory is linear in the length on every path. Calls without a layout are transformers' own, mask and all.
Leaves out: FlexAttention and variable-length flash attention, which would save kernel launches alone (a few segments
fill a GPU, and each is a flash kernel already); biases, sinks and soft caps on the scores (refused).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from infra.errors import TrainingError
from tasks.training.shared_prefix.layout import Layout, TokenSegment

NAME = "longmill_shared_prefix"
_UNSUPPORTED = ("position_bias", "s_aux", "softcap")  # changes to the scores that the pieces do not make


class SharedPass:
    """One forward pass over a layout: counts the layers that followed it, and holds the masks that they share."""

    def __init__(self, layout: Layout, scored: torch.Tensor) -> None:
        self.layout = layout
        self.scored = scored  # places of the row whose next token is scored
        self.layers = 0
        self._masks: dict[tuple[int, int], torch.Tensor] = {}

    def check_layers(self, settings: Any) -> None:
        """Raises TrainingError unless every layer of a model with this configuration has followed the layout."""
        layers = settings.get_text_config().num_hidden_layers
        if self.layers != layers:
            raise TrainingError(
                f"{self.layers} of the base model's {layers} layers followed the layout of the shared prompt: the "
                "others do not go through transformers' attention interface; set training.sharing to off"
            )

    def mask(self, segment: TokenSegment, like: torch.Tensor) -> Any:
        """What a further answer sees of prompt and answer: 0, or -inf for its own later tokens."""
        own = segment.end - segment.start
        shared = segment.shared_end - segment.shared_start
        key = own, shared
        if key not in self._masks and _on_gpu(like):
            self._masks[key] = causal_lower_right(own, shared + own)  # holds two numbers
        elif key not in self._masks:
            mask = like.new_zeros(own, shared + own)
            mask[:, shared:] = mask.new_full((own, own), float("-inf")).triu(1)
            self._masks[key] = mask
        return self._masks[key]


def register() -> None:
    """Register the attention with transformers; a second call changes nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, AttentionMaskInterface()["sdpa"])


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    shared_prefix: SharedPass | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one layer. query [1, heads, tokens, d], key and value [1, key heads, tokens, d] -> [1, tokens,
    heads, d]. Raises TrainingError when the model asks for scores that the pieces do not make."""
    from transformers import AttentionInterface

    if shared_prefix is None:
        stock_attention = AttentionInterface()["sdpa"]
        output = stock_attention(module, query, key, value, attention_mask, dropout, scaling, **others)
        return output[0], None
    unsupported = [name for name in _UNSUPPORTED if others.get(name) is not None]
    if unsupported:
        raise TrainingError(
            f"{type(module).__name__} changes its attention scores ({', '.join(unsupported)}), which reading the "
            "prompt once cannot do; set training.sharing to off"
        )
    shared_prefix.layers += 1
    query, key, value = _under_autocast(query, key, value)
    groups = query.shape[1] // key.shape[1]
    if groups > 1 and _on_gpu(query) and query.dtype not in (torch.bfloat16, torch.float16):
        # Only the flash kernel groups heads, and it is for half precision; else every score would be written out.
        key, value, groups = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1), 1
    options: dict[str, Any] = {"dropout_p": dropout, "scale": scaling, "enable_gqa": groups > 1}
    parts: list[torch.Tensor] = []
    for segment in shared_prefix.layout.segments:
        parts.append(_attend_segment(segment, shared_prefix, query, key, value, options))
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _under_autocast(*heads: torch.Tensor) -> Iterator[torch.Tensor]:
    """The heads in autocast's number format. With float32 weights the positions leave query and key in float32 beside
    a value in bfloat16; autocast mends that for plain attention, not where the mask is a `CausalBias`."""
    kind = heads[0].device.type
    for tensor in heads:
        yield tensor.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else tensor


def _on_gpu(tensor: torch.Tensor) -> bool:
    """Whether CUDA's kernels compute the attention; tests replace this on a CPU."""
    return tensor.is_cuda


def _attend_segment(
    segment: TokenSegment,
    shared_pass: SharedPass,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    options: dict[str, Any],
) -> torch.Tensor:
    own = slice(segment.start, segment.end)
    if segment.shared_start == segment.shared_end:
        return scaled_dot_product_attention(
            query[:, :, own], key[:, :, own], value[:, :, own], is_causal=True, **options
        )
    shared = slice(segment.shared_start, segment.shared_end)
    keys = torch.cat((key[:, :, shared], key[:, :, own]), dim=2)
    values = torch.cat((value[:, :, shared], value[:, :, own]), dim=2)
    return scaled_dot_product_attention(
        query[:, :, own], keys, values, attn_mask=shared_pass.mask(segment, query), **options
    )
