"""Whether a run reads shared prompts once, and what that is predicted to save: printed, logged, and on the card.

`auto` decides for every forward pass from its lengths, and leaves models alone that sharing would be wrong for; `on`
shares every pass, and such a model is an error; `off` shares none.

A model can share when all of its attention goes through transformers' interface and its positions are rotary. A layer
that sees the sequence otherwise (a sliding window shorter than the rows, linear attention, a recurrent state) would see
one answer while it reads another. What cannot be seen on the model is noticed in the first forward pass, which
counts the layers that followed the layout. Leaves out: choosing by memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infra.errors import TrainingError
from infra.recipe import Training
from tasks.training.shared_prefix.cost import ModelCost, SharingRule, shared_cost, stock_cost
from tasks.training.shared_prefix.layout import Tree


@dataclass(frozen=True, slots=True)
class SharingPlan:
    """What was chosen for a run. `reason` says why nothing is shared, where that is so."""

    questions: int
    shared: int  # questions whose prompt is read once
    predicted_speedup: float  # of all questions, against reading the prompt again with each of their answers
    reason: str = ""
    pack_tokens: int | None = None

    def sentence(self) -> str:
        """The plan as the run prints it."""
        if not self.shared:
            return f"prompts are read once per answer: {self.reason}"
        packed = f"; questions share a pass of up to {self.pack_tokens:,} tokens" if self.pack_tokens else ""
        return (
            f"the shared prompt is read once for {self.shared:,} of {self.questions:,} questions; predicted time of a "
            f"step: 1/{self.predicted_speedup:.2f} of reading it once per answer{packed}"
        )


def plan_sharing(
    settings: Training, model: Any, trees: Sequence[Tree], longest: int
) -> tuple[SharingRule | None, SharingPlan]:
    """What a run does; None reads the prompt once per answer. `longest` is the longest prompt with an answer, in
    tokens. Packed questions are always read in the shared layout, which is what separates them.

    Raises TrainingError when sharing is on, or packing is set, and the model cannot share.
    """
    mode, packed = settings.sharing, settings.pack_tokens
    if mode == "off":
        return None, SharingPlan(len(trees), 0, 1.0, "training.sharing is off")
    if settings.loss == "sft":
        return None, SharingPlan(len(trees), 0, 1.0, "sft reads one answer of each prompt")
    obstacle = sharing_obstacle(model, longest)
    if obstacle:
        if mode == "on" or packed:
            remedy = "training.pack_tokens to null and training.sharing to off" if packed else "training.sharing to off"
            raise TrainingError(f"the shared prompt cannot be read once: {obstacle}; set {remedy}")
        return None, SharingPlan(len(trees), 0, 1.0, obstacle)
    cost = ModelCost.of(model, head_everywhere=model.device.type != "cuda")
    rule = SharingRule(cost, always=mode == "on" or packed is not None)
    shared = 0
    before = saved = 0.0  # multiply-adds
    for tree in trees:
        tree_cost = stock_cost([tree], cost)
        before += tree_cost
        if rule.applies_to([tree]):
            shared += 1
            saved += tree_cost - shared_cost([tree], cost)
    if not shared:
        return None, SharingPlan(len(trees), 0, 1.0, "prompts are too short beside the answers for sharing to pay")
    return rule, SharingPlan(len(trees), shared, round(before / (before - saved), 3), pack_tokens=packed)


def sharing_obstacle(model: Any, longest: int) -> str | None:
    """Why `model` cannot share prompts over rows of up to `longest` tokens; None when it can."""
    from tasks.training.trl_seams import attention_name

    name = type(model).__name__
    if attention_name(model) != "sdpa" or not model.is_backend_compatible():
        return f"{name} does not run its attention through transformers' interface with sdpa"
    return layer_obstacle(model, longest)


def layer_obstacle(model: Any, longest: int) -> str | None:
    """What of a model's layers cannot share prompts over rows of up to `longest` tokens; None where all can."""
    settings = model.config.get_text_config()
    name = type(model).__name__
    layer_types = getattr(settings, "layer_types", None)
    unsupported = set(layer_types or ()) - {"full_attention", "sliding_attention"}
    if unsupported:
        return f"{name} has layers of {', '.join(sorted(unsupported))}, which cannot keep two answers apart"
    window = getattr(settings, "sliding_window", None)
    has_sliding_layer = layer_types is None or "sliding_attention" in layer_types
    if has_sliding_layer and window is not None and window < longest:
        return f"{name} sees through a sliding window of {window:,} tokens, the longest row has {longest:,}"
    if getattr(settings, "rope_parameters", None) is None:
        return f"{name} has no rotary position embedding"
    if getattr(settings, "output_router_logits", None) is not None:
        return f"{name} may have an auxiliary loss over its experts, which counts the tokens of both prompts"
    return None
