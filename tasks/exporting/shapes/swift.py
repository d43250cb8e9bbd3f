"""ms-swift's RLHF data: `messages` that end with the chosen answer, and the rejected one in `rejected_response`."""

from collections.abc import Mapping
from typing import Any

from tasks.exporting.shape import Row, Shape, each_pair, plain_messages, tools_text


def _row(pair: Mapping[str, Any]) -> Row:
    row = {
        "messages": plain_messages([*pair["prompt"], *pair["chosen"]]),
        "rejected_response": pair["rejected"][0]["content"],
    }
    tools = tools_text(pair)
    if tools is not None:
        row["tools"] = tools
    return row


SHAPE = Shape(
    "swift", "ms-swift: messages and rejected_response (DPO, ORPO, reward)", "pairs", each_pair(_row), takes_tools=True
)
