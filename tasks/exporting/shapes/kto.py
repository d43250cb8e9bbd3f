"""TRL's KTO format: single answers, each with a `label`, true for a chosen one.

An answer that several pairs of a question share is one row. One that is chosen in a pair and rejected in another has no
label, and is left out.
"""

import pyarrow as pa

from tasks.exporting.shape import Converted, Pairs, Shape, fields_of
from tasks.records.dataset import TOOLS


def _convert(pairs: Pairs, split: str) -> Converted:
    converted = Converted()
    labels: dict[str, set[bool]] = {}
    for pair in pairs:
        for side, label in (("chosen", True), ("rejected", False)):
            labels.setdefault(pair[side][0]["content"], set()).add(label)
    written: set[str] = set()
    for pair in pairs:
        for side, label in (("chosen", True), ("rejected", False)):
            text = pair[side][0]["content"]
            if len(labels[text]) > 1:
                converted.left_out["both_labels"] += 1
            elif text in written:
                converted.left_out["repeated"] += 1
            else:
                written.add(text)
                row = {"prompt": pair["prompt"], "completion": pair[side], "label": label}
                if TOOLS in pair:
                    row[TOOLS] = pair[TOOLS]
                converted.rows.append(row)
    return converted


def _schema(source: pa.Schema) -> pa.Schema:
    completion = pa.field("completion", source.field("chosen").type)
    label = pa.field("label", pa.bool_())
    return pa.schema([*fields_of(source, "prompt"), completion, label, *fields_of(source, TOOLS)])


SHAPE = Shape(
    "kto", "KTO (TRL): single answers as chat messages, with a label", "answers", _convert, _schema, takes_tools=True
)
