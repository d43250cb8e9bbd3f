"""Whether a run reads shared prompts once, and what that is predicted to save: printed, logged, and on the card.

`auto` decides for every forward pass from its lengths, and leaves models alone that sharing would be wrong for; `on`
shares every pass, and such a model is an error; `off` shares none. Leaves out: choosing by memory.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from infra.errors import TrainingError
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

    pairs: int
    shared_pairs: int
    predicted_speedup: float  # of all pairs, against the stock trainer
    reason: str = ""

    def sentence(self) -> str:
        """The plan as the run prints it."""
        if not self.shared_pairs:
            return f"prompts are read once per answer: {self.reason}"
        return (
            f"the shared prompt is read once for {self.shared_pairs:,} of {self.pairs:,} pairs; predicted time of a "
            f"step: 1/{self.predicted_speedup:.2f} of reading it once per answer"
        )


def plan_sharing(
    mode: Literal["auto", "on", "off"], loss: str, model: Any, lengths: Iterable[Sequence[int]], longest: int
) -> tuple[Sharing | None, SharingPlan]:
    """What a run does; None for the stock trainer. `lengths` are (prompt, chosen, rejected) of each pair, `longest`
    the longest row, all in tokens. Raises TrainingError when `mode` is on and the model cannot share."""
    trees = [Tree(prompt, (chosen, rejected)) for prompt, chosen, rejected in lengths]
    if mode == "off":
        return None, SharingPlan(len(trees), 0, 1.0, "training.sharing is off")
    if loss not in ("dpo", "orpo"):
        return None, SharingPlan(len(trees), 0, 1.0, f"{loss} reads one answer of each prompt")
    if found := obstacle(model, longest):
        if mode == "on":
            raise TrainingError(f"the shared prompt cannot be read once: {found}; set training.sharing to off")
        return None, SharingPlan(len(trees), 0, 1.0, found)
    shape = Shape.of(model, head_everywhere=loss == "dpo" and model.device.type != "cuda")
    sharing = Sharing(shape, always=mode == "on")
    shared = [tree for tree in trees if sharing.decide([tree])]
    if not shared:
        return None, SharingPlan(len(trees), 0, 1.0, "prompts are too short beside the answers for sharing to pay")
    before = sum(stock_cost([tree], shape) for tree in trees)
    saved = sum(stock_cost([tree], shape) - shared_cost([tree], shape) for tree in shared)
    return sharing, SharingPlan(len(trees), len(shared), round(before / (before - saved), 3))
