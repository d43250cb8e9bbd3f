"""Tool calls in chat messages: as chat templates read them, and as requests send them.

    {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function",
                                                         "function": {"arguments": {"q": "bridge"}, "name": "search"}}]}
    {"role": "tool", "content": "1901", "tool_call_id": "c1", "name": "search"}

Here arguments are an object, which is what templates write; a request has them as the JSON text of it (OpenAI's form),
from which vLLM makes the object again. The order of the keys is that in which vLLM hands them to a template, so that a
template which writes a whole call gives the same tokens here and there. Tools are {"type", "function": {"name",
"description", "parameters"}}, the keys that vLLM leaves in them. Content is never null: servers render "" for it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]

NO_TOOLS: Tools = ()
_NO_PARAMETERS = {"type": "object", "properties": {}}


def tool_call(call_id: str, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of `tool_calls`."""
    return {"id": call_id, "function": {"arguments": dict(arguments), "name": name}, "type": "function"}


def read_tool(value: Any) -> dict[str, Any] | None:
    """A tool of OpenAI's form, or its function alone; None for what is neither, or cannot be written as UTF-8."""
    function = value.get("function", value) if isinstance(value, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        return None
    description, parameters = function.get("description"), function.get("parameters")
    own = {
        "name": function["name"],
        "description": description if isinstance(description, str) else "",
        "parameters": parameters if isinstance(parameters, Mapping) else _NO_PARAMETERS,
    }
    return {"type": "function", "function": own} if _writable(own) else None


def read_arguments(text: str) -> dict[str, Any] | None:
    """The object that a call's arguments are; none are an empty one. None for anything else: vLLM would drop it."""
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and _writable(value) else None


def json_text(value: Any) -> str:
    """JSON text with its keys in their order."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def read_call(value: Any) -> dict[str, Any] | None:
    """An entry of `tool_calls` in OpenAI's form, whose arguments may be an object already; None for anything else."""
    function = value.get("function") if isinstance(value, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        return None
    arguments = function.get("arguments")
    if isinstance(arguments, str) or arguments is None:
        arguments = read_arguments(arguments or "")
    if not isinstance(arguments, Mapping) or not _writable(arguments):
        return None
    return tool_call(str(value.get("id") or ""), function["name"], arguments)


def request_messages(messages: Messages) -> list[dict[str, Any]]:
    """Messages as a request has them."""
    sent = []
    for message in messages:
        own = dict(message)
        if "tool_calls" in message:
            own["tool_calls"] = []
            for call in message["tool_calls"]:
                function = {**call["function"], "arguments": json_text(call["function"]["arguments"])}
                own["tool_calls"].append({**call, "function": function})
        sent.append(own)
    return sent


def change_texts(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with every text of it changed, the names of its fields too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(name): change_texts(member, change) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [change_texts(member, change) for member in value]
    return value


def change_message(message: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """A message with the texts in it changed: what it says, and its calls."""
    changed: dict[str, Any] = {}
    for field, value in message.items():
        changed[field] = value if field == "role" else change_texts(value, change)
    return changed


def change_tools(tools: Tools, change: Callable[[str], str]) -> tuple[dict[str, Any], ...]:
    """Tools with the texts in them changed."""
    return tuple(change_texts(tool, change) for tool in tools)


def _writable(value: Any) -> bool:
    """Whether JSON and UTF-8 can hold a value."""
    try:
        json_text(value).encode("utf-8")
    except (ValueError, RecursionError):
        return False
    return True
