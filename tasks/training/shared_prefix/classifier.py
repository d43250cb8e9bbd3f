"""A sequence classifier that reads a prompt once and gives the logits of all its answers: in training and in scoring.

`share_classifier` replaces a model's forward. A call with `trees` (see forward.py) packs the padded batch into one row
of the shared layout, runs the layers on it, and projects the last token of each answer alone: [answers, labels], as the
stock forward gives them for the padded batch, with its rule for the last token (the last that is no padding). Every
other call takes the stock forward. Leaves out: classifiers that are not made of a causal language model.
"""

import functools
import types
from collections.abc import Sequence
from typing import Any

import torch

from infra.errors import TrainingError
from tasks.training.shared_prefix.attention import NAME, SharedPass, register
from tasks.training.shared_prefix.choice import layer_obstacle
from tasks.training.shared_prefix.forward import batch_trees, pack
from tasks.training.shared_prefix.layout import Layout

_TOLERANCE = 1e-3  # of a trial's logits, of float32; a wrong layout is off by far more


def classifier_obstacle(model: Any, longest: int) -> str | None:
    """Why a classifier cannot share prompts over rows of up to `longest` tokens; None when it can."""
    from transformers.modeling_layers import GenericForSequenceClassification

    name = type(model).__name__
    settings = model.config.get_text_config()
    if not isinstance(model, GenericForSequenceClassification) or not model.is_backend_compatible():
        return f"{name} is not made of a causal language model of transformers' common form"
    if getattr(settings, "use_bidirectional_attention", False):
        return f"{name} reads in both directions"
    return layer_obstacle(model, longest)


def share_classifier(model: Any) -> None:
    """Let `model`, a transformers sequence classifier without an obstacle, read each prompt of a batch once."""
    register()
    model.set_attn_implementation(NAME)
    stock = model.forward

    @functools.wraps(stock)
    def forward(self: Any, *positional: Any, trees: torch.Tensor | None = None, **named: Any) -> Any:
        from transformers.modeling_outputs import SequenceClassifierOutputWithPast

        if trees is None:
            return stock(*positional, **named)
        layout = Layout(batch_trees(trees, named["attention_mask"]))
        return SequenceClassifierOutputWithPast(logits=_logits(self, layout, named))

    model.forward = types.MethodType(forward, model)


def can_share(model: Any) -> bool:
    """Let a loaded classifier read the prompt of several answers once, where that gives the same logits."""
    if classifier_obstacle(model, 1) is not None:
        return False
    share_classifier(model)
    return passes_trial(model)


def passes_trial(model: Any) -> bool:
    """Whether a classifier that shares gives, for a short prompt with two answers, the logits of its stock forward."""
    tokens = torch.arange(3, 19, device=model.device) % model.config.get_text_config().vocab_size
    rows = torch.stack((tokens, torch.cat((tokens[:10], tokens[10:].flip(0)))))
    batch = {"input_ids": rows, "attention_mask": torch.ones_like(rows)}
    with torch.inference_mode():
        try:
            shared = model(**batch, trees=torch.tensor([[10, 2]])).logits.float()
        except TrainingError:
            return False
        one_by_one = [model(**{name: value[place : place + 1] for name, value in batch.items()}) for place in range(2)]
    stock = torch.cat([output.logits for output in one_by_one]).float()
    tolerance = _TOLERANCE if model.dtype == torch.float32 else 0.1
    return bool(((shared - stock).abs() <= tolerance * stock.abs().clamp(min=1.0)).all())


def _logits(model: Any, layout: Layout, batch: dict[str, Any]) -> torch.Tensor:
    """[answers, labels] of a padded batch, from one row in `layout`."""
    packed = pack(layout, batch["input_ids"], batch["attention_mask"])
    ends = _last_tokens(layout, packed.row, model.config.get_text_config().pad_token_id)
    shared_pass = SharedPass(layout, ends)
    hidden = model.base_model(
        input_ids=packed.row[None],
        position_ids=packed.positions[None],
        attention_mask=packed.no_mask,
        shared_prefix=shared_pass,
        use_cache=False,
    ).last_hidden_state
    shared_pass.check_layers(model.config)
    logits: torch.Tensor = model.score(hidden[0, ends])
    return logits


def _last_tokens(layout: Layout, row: torch.Tensor, pad: int | None) -> torch.Tensor:
    """The place of each answer's last token that is no padding: transformers pools there."""
    ends: Sequence[int] = [segment.end - 1 for segment in layout.segments]
    if pad is not None:
        before = []
        for segment in layout.segments:
            tokens = (row[segment.start : segment.end] != pad).nonzero()
            before.append(segment.start + int(tokens[-1]) if len(tokens) else segment.start)
        ends = before
    return torch.tensor(ends, device=row.device)
