"""TRL's RewardTrainer: preference pairs with a `margin`, the difference of the two rewards in the dataset's scale."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from tasks.exporting.shape import Row, Shape, each_pair, fields_of
from tasks.records.dataset import TOOLS

_COLUMNS = ("prompt", "chosen", "rejected", "margin", TOOLS)


def _row(pair: Mapping[str, Any]) -> Row:
    return {name: pair[name] for name in _COLUMNS if name in pair}


def _schema(source: pa.Schema) -> pa.Schema:
    return pa.schema(fields_of(source, *_COLUMNS))


SHAPE = Shape(
    "reward", "reward models (TRL): pairs as chat messages, with a margin", "pairs", each_pair(_row), _schema, True
)
