"""TRL's RewardTrainer: preference pairs with a `margin`, the difference of the two rewards in the dataset's scale."""

from tasks.exporting.shape import of_columns

SHAPE = of_columns(
    "reward",
    "reward models (TRL): pairs as chat messages, with a margin",
    "prompt",
    "chosen",
    "rejected",
    "margin",
    "tools",
)
