"""TRL's conversational preference format: `prompt`, `chosen` and `rejected` as chat messages. DPO, ORPO, CPO, SimPO."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from tasks.exporting.shape import Row, Shape, each_pair, fields_of
from tasks.records.dataset import TOOLS

_COLUMNS = ("prompt", "chosen", "rejected", TOOLS)


def _row(pair: Mapping[str, Any]) -> Row:
    return {name: pair[name] for name in _COLUMNS if name in pair}


def _schema(source: pa.Schema) -> pa.Schema:
    return pa.schema(fields_of(source, *_COLUMNS))


SHAPE = Shape(
    "trl", "TRL: prompt, chosen, rejected as chat messages", "pairs", each_pair(_row), _schema, takes_tools=True
)
