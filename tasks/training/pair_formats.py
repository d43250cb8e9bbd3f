"""A row of a file of preference pairs as prompt, chosen and rejected messages.

TRL's formats: texts, or chat messages; with a prompt, or with whole conversations that share their beginning, which is
the prompt then (as UltraFeedback's). Also LongReward's files (context, query, win_response, lose_response) and
transcripts that begin with "Human:". A text is one message: of the user in a prompt, of the assistant in an answer.
A prompt may have tool calls and results, and a row `tools`, a list or its JSON. Leaves out: images, answers that call
tools, and answers of several turns.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from infra.models.tool_calls import read_call

_ROLES = ("system", "user", "assistant", "tool")
_OTHER_NAMES = {"chosen": "win_response", "rejected": "lose_response"}  # LongReward's
_PROMPT_PARTS = ("context", "query")  # of a row without a prompt
_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):")
_NOT_READ = ("images", "image")
ACCEPTED = (
    "prompt, chosen and rejected, as texts or as lists of messages; chosen and rejected alone, as whole conversations; "
    "or LongReward's context, query, win_response and lose_response"
)
Messages = list[dict[str, Any]]


class RowError(Exception):
    """A row that cannot be trained on: `reason` is a word to count it under, the text says what is wrong."""

    def __init__(self, reason: str, fault: str) -> None:
        super().__init__(fault)
        self.reason = reason


def has_pair(values: Mapping[str, Any]) -> bool:
    """Whether a row has the fields of a preference pair; its values may still be unusable."""
    return all(name in values or other in values for name, other in _OTHER_NAMES.items())


def read_pair(values: Mapping[str, Any]) -> dict[str, Any]:
    """prompt, chosen and rejected as messages, and `tools` where there are any; one message of the assistant on either
    side. Raises RowError."""
    for field in _NOT_READ:
        if values.get(field):
            raise RowError("not_text_alone", f"{field} is not read, and the prompt is another one without it")
    values = _with_trl_names(values)
    chosen = _answers(values, "chosen")
    rejected = _answers(values, "rejected")
    if chosen[0]["role"] == rejected[0]["role"] == "assistant":
        prompt = _messages(values, "prompt", "user")
    else:  # whole conversations, which bring their prompt
        shared = min(_common_messages(chosen, rejected), len(chosen) - 1, len(rejected) - 1)
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    for side, answer in (("chosen", chosen), ("rejected", rejected)):
        if len(answer) != 1 or answer[0]["role"] != "assistant":
            raise RowError(
                "several_turns", f"{side} must be one message of the assistant after the prompt that both share"
            )
        if "tool_calls" in answer[0]:
            raise RowError("not_text_alone", f"{side} calls tools, which is not trained")
    if not prompt or prompt[-1]["role"] not in ("user", "tool"):
        raise RowError("prompt_without_user", "the prompt must end with a message of the user")
    if chosen[0]["content"] == rejected[0]["content"]:
        raise RowError("same_text", "chosen and rejected are the same text")
    tools = _tools(values)
    pair: dict[str, Any] = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    return {**pair, "tools": tools} if tools else pair


def _tools(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tools of a row, as they are: the template may write all that they say."""
    tools = values.get("tools")
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError):
            tools = [None]
    if not isinstance(tools or [], list) or not all(isinstance(tool, Mapping) for tool in tools or ()):
        raise RowError("not_tools", "tools are not a list of objects, or its JSON")
    return list(map(dict, tools or ()))


def _with_trl_names(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row with LongReward's fields by TRL's names; its models read the context, an empty line and the query."""
    renamed = dict(values)
    for name, other in _OTHER_NAMES.items():
        if name not in renamed and other in renamed:
            renamed[name] = renamed[other]
    if renamed.get("prompt") is None and set(_PROMPT_PARTS) <= renamed.keys():
        parts = []
        for field in _PROMPT_PARTS:
            if not isinstance(renamed[field], str) or not renamed[field].strip():
                raise RowError("empty", f"{field} is empty")
            parts.append(renamed[field])
        renamed["prompt"] = "\n\n".join(parts)
    return renamed


def _answers(values: Mapping[str, Any], field: str) -> Messages:
    """An answer, or the whole conversation that ends with it."""
    value = values.get(field)
    if values.get("prompt") is None and isinstance(value, str) and value.lstrip("\n").startswith("Human:"):
        return _messages({field: _transcript(value.strip())}, field, "assistant")
    return _messages(values, field, "assistant")


def _transcript(text: str) -> list[dict[str, str]]:
    """The messages of "Human: … Assistant: …"."""
    roles = {"Human": "user", "Assistant": "assistant"}
    parts = _TURN.split(text)[1:]
    return [
        {"role": roles[name], "content": content.strip()} for name, content in zip(parts[::2], parts[1::2], strict=True)
    ]


def _messages(values: Mapping[str, Any], field: str, role: str) -> Messages:
    """A field as messages: a plain text is one message of `role`."""
    value = values.get(field)
    if value is None:
        raise RowError("missing_field", f"{field} is missing")
    if isinstance(value, str):
        value = [{"role": role, "content": value}]
    if not isinstance(value, list) or not value or not all(isinstance(message, Mapping) for message in value):
        raise RowError("not_messages", f"{field} is neither a text nor a list of messages")
    return [_message(message, field) for message in value]


def _message(message: Mapping[str, Any], field: str) -> dict[str, Any]:
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES:
        raise RowError("not_messages", f"{field} has a message whose role is {role!r}, not {', '.join(_ROLES)}")
    further = _tool_fields(message, field)
    if content is None and further:
        content = ""
    if not isinstance(content, str):
        raise RowError("not_messages", f"{field} has a message without text")
    if not content.strip() and not further:
        raise RowError("empty", f"{field} is empty")
    try:
        content.encode("utf-8")
    except UnicodeEncodeError:
        raise RowError("not_messages", f"{field} holds a lone surrogate") from None
    return {"role": role, "content": content, **further}


def _tool_fields(message: Mapping[str, Any], field: str) -> dict[str, Any]:
    """The tool calls of a message, or of a result the call that it is of."""
    if message.get("role") == "tool":
        names = ("tool_call_id", "name")
        return {name: message[name] for name in names if isinstance(message.get(name), str)} or {"tool_call_id": ""}
    calls = list(map(read_call, message.get("tool_calls") or ()))
    if None in calls:
        raise RowError("not_messages", f"{field} has a tool call without a name, or whose arguments are no JSON object")
    return {"tool_calls": calls} if calls else {}


def _common_messages(first: Messages, second: Messages) -> int:
    """How many messages two conversations share from their start."""
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count
