"""`full`: every sample sees the whole context."""

from collections.abc import Sequence

from infra.recipe import Recipe
from tasks.records.example import Answer, Context, Example
from tasks.samplers import FULL, Sampler, View


def views(
    example: Example, context: Context, recipe: Recipe, indices: Sequence[int], earlier: Sequence[Answer]
) -> list[View]:
    """The whole context, for each sample."""
    return [View(context) for _ in indices]


SAMPLER = Sampler(FULL, "the whole context", views)
