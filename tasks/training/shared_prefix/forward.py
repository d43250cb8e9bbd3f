"""A model that is asked for the log-probabilities of a padded pair batch, and reads each prompt once.

`share_prompts` replaces the forward that TRL's `add_fused_lm_head` gave a model. Called as TRL calls it (input_ids,
attention_mask and labels, all [answers x questions, tokens], fused_lm_head=True), it packs the batch into one row,
runs the model on it, projects only the hidden states whose next token has a label, and returns TRL's per-token
fields in the batch's shape. Every other call, and a batch that is dearer to share, goes the old way.
"""

import functools
import types
from collections.abc import Callable, Sequence
from typing import Any

import torch

from infra.errors import TrainingError
from tasks.training.shared_prefix.attention import NAME, Reading, register
from tasks.training.shared_prefix.layout import Layout, Tree

IGNORED = -100
_FIELDS = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")

Choose = Callable[[Sequence[Tree]], bool]


def share_prompts(model: Any, choose: Choose, answers: int = 2) -> None:
    """Let `model`, a transformers causal language model with TRL's fused head, read each prompt of a batch once.

    `choose(trees)` decides for each batch. Rows come as TRL's collator makes them: `answers` blocks, one row per
    question in each, prompts at the left edge.
    """
    register()
    model.set_attn_implementation(NAME)
    model.base_model.register_forward_hook(_keep_scored, with_kwargs=True)
    stock = model.forward

    @functools.wraps(stock)
    def forward(self: Any, *positional: Any, fused_lm_head: bool = False, **named: Any) -> Any:
        if not fused_lm_head:
            return stock(*positional, **named)
        trees = batch_trees(named["attention_mask"], named["labels"], answers)
        if not choose(trees):
            return stock(*positional, fused_lm_head=True, **named)
        return _shared(stock, self.config, Layout(trees), named)

    model.forward = types.MethodType(forward, model)


def batch_trees(attention_mask: torch.Tensor, completion: torch.Tensor, answers: int) -> tuple[Tree, ...]:
    """The trees of a padded batch. `completion` marks answers: labels, IGNORED elsewhere, [answers x questions,
    tokens]; the prompt is what stands before the second answer's first label."""
    ends = attention_mask.sum(dim=1).view(answers, -1)
    starts = (completion != IGNORED).int().argmax(dim=1).view(answers, -1)[-1]
    lengths = (ends - starts).T.tolist()
    return tuple(Tree(prompt, tuple(sides)) for prompt, sides in zip(starts.tolist(), lengths, strict=True))


def _shared(stock: Any, settings: Any, layout: Layout, batch: dict[str, Any]) -> Any:
    """TRL's output of the padded batch, from one row in `layout`."""
    ids, labels = batch.pop("input_ids"), batch.pop("labels")
    width = ids.shape[1]
    sources = layout.sources(width).to(ids.device)
    places = layout.places(width).to(ids.device)
    row = ids.flatten()[sources]
    _check_prompts(row[places], ids, batch.pop("attention_mask"))
    scored = labels[:, 1:] != IGNORED
    reading = Reading(layout, places[:, :-1][scored])
    found = stock(
        input_ids=row[None],
        position_ids=(sources % width)[None],
        attention_mask=ids.new_zeros(1, 1, 1, 1, dtype=torch.bool),  # of 4 dimensions: transformers makes none
        shift_labels=labels[:, 1:][scored][None],
        fused_lm_head=True,
        shared_prefix=reading,
        **batch,
    )
    layers = settings.get_text_config().num_hidden_layers
    if reading.layers != layers:
        raise TrainingError(
            f"{reading.layers} of the base model's {layers} layers followed the layout of the shared prompt: the "
            "others do not go through transformers' attention interface; set training.sharing to off"
        )
    return _as_batch(found, scored)


def _check_prompts(found: torch.Tensor, ids: torch.Tensor, attention_mask: torch.Tensor) -> None:
    if not bool(((found == ids) | (attention_mask == 0)).all()):
        raise TrainingError("the answers of a question do not share their prompt; set training.sharing to off")


def _keep_scored(module: Any, positional: Any, named: dict[str, Any], output: Any) -> Any:
    """Of the last hidden states [1, tokens, d] only those that predict a label: the head reads no others."""
    reading = named.get("shared_prefix")
    if reading is not None:
        output.last_hidden_state = output.last_hidden_state[:, reading.scored]
    return output


def _as_batch(found: Any, scored: torch.Tensor) -> Any:
    """The per-token fields of `found`, [1, labels], at their places in the padded batch, zero elsewhere."""
    for name in _FIELDS:
        values = getattr(found, name)
        if values is not None:
            setattr(found, name, values.new_zeros(scored.shape).masked_scatter(scored, values[0]))
    found.label_mask = scored
    return found
