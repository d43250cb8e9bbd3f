"""Whether a run reads shared prompts once, and what that is predicted to save: printed, logged, and on the card.

`auto` decides for every forward pass from its lengths, and leaves models alone that sharing would be wrong for; `on`
shares every pass, and such a model is an error; `off` shares none. Leaves out: choosing by memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infra.errors import TrainingError
from infra.recipe import Training
from tasks.training.shared_prefix.cost import MARGIN, Shape, predicted_speedup, shared_cost, stock_cost
from tasks.training.shared_prefix.layout import Tree
from tasks.training.shared_prefix.support import obstacle


class Sharing:
    """Decides for each batch, and remembers the last decision."""

    def __init__(self, shape: Shape, always: bool) -> None:
        self.shape = shape
        self.shared = always
        self._always = always

    def decide(self, trees: Sequence[Tree]) -> bool:
        """Whether the prompts of this batch are read once; the same lengths give the same answer."""
        self.shared = self._always or predicted_speedup(trees, self.shape) >= MARGIN
        return self.shared


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
) -> tuple[Sharing | None, SharingPlan]:
    """What a run does; None reads the prompt once per answer. `longest` is the longest prompt with an answer, in
    tokens. Packed questions are always read in the shared layout, which is what keeps them apart.

    Raises TrainingError when sharing is on, or packing asked for, and the model cannot share.
    """
    mode, packed = settings.sharing, settings.pack_tokens
    if mode == "off":
        return None, SharingPlan(len(trees), 0, 1.0, "training.sharing is off")
    if settings.loss == "sft":
        return None, SharingPlan(len(trees), 0, 1.0, "sft reads one answer of each prompt")
    if found := obstacle(model, longest):
        if mode == "on" or packed:
            remedy = "training.pack_tokens to null and training.sharing to off" if packed else "training.sharing to off"
            raise TrainingError(f"the shared prompt cannot be read once: {found}; set {remedy}")
        return None, SharingPlan(len(trees), 0, 1.0, found)
    shape = Shape.of(model, head_everywhere=model.device.type != "cuda")
    sharing = Sharing(shape, always=mode == "on" or packed is not None)
    shared = [tree for tree in trees if sharing.decide([tree])]
    if not shared:
        return None, SharingPlan(len(trees), 0, 1.0, "prompts are too short beside the answers for sharing to pay")
    before = sum(stock_cost([tree], shape) for tree in trees)
    saved = sum(stock_cost([tree], shape) - shared_cost([tree], shape) for tree in shared)
    return sharing, SharingPlan(len(trees), len(shared), round(before / (before - saved), 3), pack_tokens=packed)
