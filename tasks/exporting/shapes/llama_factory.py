"""LLaMA-Factory's preference data in its sharegpt format, with the `dataset_info.json` that describes it.

A system prompt and tools have columns of their own. Of the other messages LLaMA-Factory reads people and results of
tools at odd places and the model at even ones; a prompt in another order is left out.
"""

import json
from collections.abc import Mapping
from typing import Any

from infra.models.tool_calls import json_text
from tasks.exporting.shape import ExportedSplits, Row, Shape, each_pair, tools_text

_SPEAKERS = {"user": "human", "tool": "observation", "assistant": "gpt"}
_ODD, _CALL = ("human", "observation"), "function_call"


def _row(pair: Mapping[str, Any]) -> Row | str:
    messages = list(pair["prompt"])
    system = messages.pop(0)["content"] if messages[0]["role"] == "system" else ""
    turns = []
    for place, message in enumerate(messages):
        turn = _turn(message)
        if turn is None or (turn["from"] in _ODD) != (place % 2 == 0):
            return "order_of_turns"
        turns.append(turn)
    chosen, rejected = _turn(pair["chosen"][0]), _turn(pair["rejected"][0])
    if len(turns) % 2 == 0:
        return "order_of_turns"
    return {
        "conversations": turns,
        "chosen": chosen,
        "rejected": rejected,
        "system": system,
        "tools": tools_text(pair) or "",
    }


def _turn(message: Mapping[str, Any]) -> dict[str, str] | None:
    """A message as LLaMA-Factory has it; None for a role that it does not know."""
    if message.get("tool_calls"):
        calls = []
        for call in message["tool_calls"]:
            calls.append({"name": call["function"]["name"], "arguments": call["function"]["arguments"]})
        return {"from": _CALL, "value": json_text(calls)}
    speaker = _SPEAKERS.get(message["role"])
    return None if speaker is None else {"from": speaker, "value": message["content"] or ""}


def _beside(exported: ExportedSplits) -> dict[str, str]:
    datasets = {}
    for split, file in exported.files.items():
        columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "system": "system"}
        if exported.with_tools:
            columns["tools"] = "tools"
        name = exported.name if split == "train" else f"{exported.name}_{split}"
        datasets[name] = {"file_name": file, "formatting": "sharegpt", "ranking": True, "columns": columns}
    return {"dataset_info.json": json.dumps(datasets, ensure_ascii=False, indent=2) + "\n"}


SHAPE = Shape(
    "llama-factory",
    "LLaMA-Factory: sharegpt pairs, with dataset_info.json",
    "pairs",
    each_pair(_row),
    takes_tools=True,
    beside=_beside,
)
