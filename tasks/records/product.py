"""What the shards of a plan make: pairs of answers to questions, or questions about documents.

Plans, shards, results and datasets are the same for both. `plan.json` says which it is, and this record how it is
called: as the table of a shard, as the configuration of the dataset and in counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Product:
    """`name`: of what is made; `planned`: of the plan's rows, each of which gives one of these or a drop.

    `stage`: of the progress of the plan's rows.
    """

    name: str
    planned: str
    stage: str

    def made(self, counts: Mapping[str, Any]) -> int:
        """How many there are, from the counts of a manifest."""
        return int(counts[self.name])


PAIRS = Product("pairs", "questions", "score")
QUESTIONS = Product("questions", "planned", "ask")
ROWS, HISTORIES = "rows", "histories"  # rule of a plan of questions some of whose documents are histories
PRODUCTS = {product.name: product for product in (PAIRS, QUESTIONS)}


def product_of_counts(counts: Mapping[str, Any]) -> Product:
    """The product of a manifest, from its counts."""
    return QUESTIONS if QUESTIONS.planned in counts else PAIRS
