"""A model that gives the log-probabilities of a padded batch of trees, and reads each prompt once.

`share_prompts` replaces the forward that TRL's `add_fused_lm_head` gave a model. It is called as TRL calls it
(input_ids, attention_mask and labels, all [answers, tokens], fused_lm_head=True), with `trees`, which says which rows
are answers of one prompt. It packs the batch into one row, runs the model on it, projects only the hidden states whose
next token has a label, and returns TRL's per-token fields in the batch's shape. Every other call, and a batch that
costs more when it is shared, takes the model's own forward.
"""

import functools
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from infra.errors import TrainingError
from tasks.training.shared_prefix.attention import NAME, SharedPass, register
from tasks.training.shared_prefix.layout import IGNORED, Layout, Tree

TOKEN_FIELDS = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")  # of TRL's FusedCausalLMOutput


def share_prompts(model: Any, choose: Callable[[Sequence[Tree]], bool]) -> None:
    """Let `model`, a transformers causal language model with TRL's fused head, read each prompt of a batch once.

    `choose(trees)` decides for each batch. A batch names its trees in `trees`: [questions, 2], the prompt's tokens and
    the number of its answers, which stand in as many rows one after another, prompts at the left edge.
    """
    register()
    model.set_attn_implementation(NAME)
    model.base_model.register_forward_hook(_select_scored, with_kwargs=True)
    stock = model.forward

    @functools.wraps(stock)
    def forward(self: Any, *positional: Any, trees: torch.Tensor | None = None, **named: Any) -> Any:
        if trees is None:
            return stock(*positional, **named)
        lengths = batch_trees(trees, named["attention_mask"])
        if not choose(lengths):
            return stock(*positional, **named)
        return _shared(stock, self.config, Layout(lengths), named)

    model.forward = types.MethodType(forward, model)


def batch_trees(trees: torch.Tensor, attention_mask: torch.Tensor) -> tuple[Tree, ...]:
    """The lengths of a padded batch's trees; `trees` as in `share_prompts`."""
    row_lengths = attention_mask.sum(dim=1).tolist()
    lengths: list[Tree] = []
    row = 0
    for prompt, answers in trees.tolist():
        answer_lengths = [length - prompt for length in row_lengths[row : row + answers]]
        lengths.append(Tree(prompt, tuple(answer_lengths)))
        row += answers
    return tuple(lengths)


def _shared(stock: Any, settings: Any, layout: Layout, batch: dict[str, Any]) -> Any:
    """TRL's output of the padded batch, from one row in `layout`."""
    labels = batch.pop("labels")
    packed = pack(layout, batch.pop("input_ids"), batch.pop("attention_mask"))
    scored = labels[:, 1:] != IGNORED
    # a prompt's token is scored once
    scored_places, copies = torch.unique(packed.places[:, :-1][scored], return_inverse=True)
    next_tokens = labels.new_empty(len(scored_places)).scatter_(0, copies, labels[:, 1:][scored])
    shared_pass = SharedPass(layout, scored_places)
    output = stock(
        input_ids=packed.row[None],
        position_ids=packed.positions[None],
        attention_mask=packed.no_mask,
        shift_labels=next_tokens[None],
        shared_prefix=shared_pass,
        **batch,
    )
    shared_pass.check_layers(settings)
    return _as_batch(output, scored, copies)


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """A padded batch as one row: its ids and positions, both [tokens], and for each token of the batch its place."""

    row: torch.Tensor
    positions: torch.Tensor
    places: torch.Tensor  # [answers, tokens]

    @property
    def no_mask(self) -> torch.Tensor:
        """Stands for a mask: of 4 dimensions, so that transformers makes none."""
        return self.row.new_zeros(1, 1, 1, 1, dtype=torch.bool)


def pack(layout: Layout, ids: torch.Tensor, attention_mask: torch.Tensor) -> PackedBatch:
    """A padded batch in the shared layout. Raises TrainingError where the answers of a tree have other prompts."""
    width = ids.shape[1]
    sources = layout.sources(width).to(ids.device)
    places = layout.places(width).to(ids.device)
    row = ids.flatten()[sources]
    _check_prompts(row[places], ids, attention_mask)
    return PackedBatch(row, sources % width, places)


def _check_prompts(packed_ids: torch.Tensor, ids: torch.Tensor, attention_mask: torch.Tensor) -> None:
    if not bool(((packed_ids == ids) | (attention_mask == 0)).all()):
        raise TrainingError("the answers of a question do not share their prompt; set training.sharing to off")


def _select_scored(module: Any, positional: Any, named: dict[str, Any], output: Any) -> Any:
    """Of the last hidden states [1, tokens, d] only those that predict a label: the head reads no others."""
    shared_pass = named.get("shared_prefix")
    if shared_pass is not None:
        output.last_hidden_state = output.last_hidden_state[:, shared_pass.scored]
    return output


def _as_batch(output: Any, scored: torch.Tensor, copies: torch.Tensor) -> Any:
    """The per-token fields of `output`, [1, scored places], where the padded batch has them, zero elsewhere."""
    for name in TOKEN_FIELDS:
        values = getattr(output, name)
        if values is not None:
            setattr(output, name, values.new_zeros(scored.shape).masked_scatter(scored, values[0][copies]))
    output.label_mask = scored
    return output
