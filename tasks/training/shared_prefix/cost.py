"""What reading the prompt once saves, from lengths alone: the multiply-adds of a forward pass, both ways.

cost = linear x tokens + attention x visible + head x scored: `linear` is the size of all matrices of the layers,
`attention` 2 x layers x heads x head width, `head` vocabulary x width, the last two times what a multiply-add of
theirs takes beside one of a layer's matrices. `visible` counts the pairs of query
and key that the kernels compute: n^2 / 2 for a causal row of n tokens, everything inside a masked rectangle. A
padded batch is masked whole. A backward pass multiplies both sides by the same number. Leaves out: memory traffic,
launch times and what packing, copying and unpacking cost; MARGIN allows for them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.training.shared_prefix.layout import Tree

MARGIN = 1.05  # sharing must promise at least this
# One core's time, best of three, 1k to 8k tokens, three forward passes and a backward one, PyTorch 2.13 on a CPU:
# causal 1.6 to 2.5, masked 1.8 to 1.9, an answer's rectangle 2.0 to 2.3; head with its softmax 1.3. No GPU was at hand.
ATTENTION_PRICE = 1.9
HEAD_PRICE = 1.3


@dataclass(frozen=True, slots=True)
class ModelCost:
    """What a model costs, in multiply-adds of a layer's matrices: per token, per pair of query and key, and per
    scored token."""

    linear: float
    attention: float
    head: float
    head_everywhere: bool = False  # the stock trainer projects every token of the batch, not only answers

    @staticmethod
    def of(model: Any, head_everywhere: bool) -> "ModelCost":
        """The cost of a transformers causal language model."""
        settings = model.config.get_text_config()
        width = getattr(settings, "head_dim", None) or settings.hidden_size // settings.num_attention_heads
        embeddings = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
        linear = 0
        for parameter in model.parameters():
            if parameter.dim() == 2 and id(parameter) not in embeddings:
                linear += parameter.numel()
        attention = 2 * settings.num_hidden_layers * settings.num_attention_heads * width
        head = settings.vocab_size * settings.hidden_size
        return ModelCost(linear, ATTENTION_PRICE * attention, HEAD_PRICE * head, head_everywhere)


def predicted_speedup(trees: Sequence[Tree], cost: ModelCost) -> float:
    """How many times faster a batch of trees is when each prompt is read once."""
    return stock_cost(trees, cost) / shared_cost(trees, cost)


def stock_cost(trees: Sequence[Tree], cost: ModelCost) -> float:
    """Multiply-adds of the padded batch: a row per answer."""
    lengths: list[int] = []
    for tree in trees:
        for answer in tree.answers:
            lengths.append(tree.prompt + answer)
    longest, rows = max(lengths), len(lengths)
    padded = min(lengths) < longest
    visible = rows * longest**2 * (1.0 if padded else 0.5)
    scored = rows * longest if cost.head_everywhere else _answer_tokens(trees)
    return cost.linear * rows * longest + cost.attention * visible + cost.head * scored


def shared_cost(trees: Sequence[Tree], cost: ModelCost) -> float:
    """Multiply-adds of the trees in one row."""
    tokens = sum(tree.tokens for tree in trees)
    visible = 0.0
    for tree in trees:
        visible += (tree.prompt + tree.answers[0]) ** 2 / 2
        for answer in tree.answers[1:]:
            visible += (1 + answer) * (tree.prompt + answer)
    return cost.linear * tokens + cost.attention * visible + cost.head * _answer_tokens(trees)


def _answer_tokens(trees: Sequence[Tree]) -> int:
    return sum(sum(tree.answers) for tree in trees)


class SharingRule:
    """Decides for each batch whether its prompts are read once; `applied` is the last decision."""

    def __init__(self, cost: ModelCost, always: bool) -> None:
        self.cost = cost
        self.applied = always
        self._always = always

    def applies_to(self, trees: Sequence[Tree]) -> bool:
        """Whether the prompts of this batch are read once; the same lengths give the same answer."""
        self.applied = self._always or predicted_speedup(trees, self.cost) >= MARGIN
        return self.applied
