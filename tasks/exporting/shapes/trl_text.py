"""TRL's standard preference format: `prompt`, `chosen` and `rejected` as plain texts, without a chat template.

TRL puts an answer right behind its prompt, so a prompt ends with an empty line here. A prompt of several messages has
no form without a chat template, and is left out.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from tasks.exporting.shape import Row, Shape, each_pair


def _row(pair: Mapping[str, Any]) -> Row | str:
    if len(pair["prompt"]) != 1:
        return "several_messages"
    return {
        "prompt": pair["prompt"][0]["content"].rstrip() + "\n\n",
        "chosen": pair["chosen"][0]["content"],
        "rejected": pair["rejected"][0]["content"],
    }


def _schema(source: pa.Schema) -> pa.Schema:
    return pa.schema([(name, pa.string()) for name in ("prompt", "chosen", "rejected")])


SHAPE = Shape("trl-text", "TRL: prompt, chosen, rejected as plain texts", "pairs", each_pair(_row), _schema)
