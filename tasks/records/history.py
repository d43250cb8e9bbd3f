"""Chat messages as one text, and that text as messages again: the canonical form of a context that is a history.

    [1] user: I graduated in May.

    [2] assistant: Congratulations!

The number and the role stand before what a message says, so that a passage of the text says whose turn it is. Spans are
exactly the messages' texts. Of a message with tool calls, or a tool's result, the text has more than its content:
`Context.tool_use` says what is its content and what its calls are, and which tools there are. Its JSON is {"tools":
[...], "messages": {"2": {"content": [start, end) in the message's text, and the message's other fields}}}.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tasks.records.example import Context

_GAP = "\n\n"


def turn_heading(number: int, role: str) -> str:
    """What stands before a message; numbers count from 1."""
    return f"[{number}] {role}: "


def history_text(
    messages: Iterable[Mapping[str, str]], before: str = ""
) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """(the text of messages {"role", "content"}, where each content starts, where it ends). `before` stands first."""
    parts = [before] if before else []
    starts: list[int] = []
    ends: list[int] = []
    length = len(before)
    for number, message in enumerate(messages, 1):
        gap = _GAP if parts else ""
        parts.append(f"{gap}{turn_heading(number, message['role'])}{message['content']}")
        length += len(parts[-1])
        starts.append(length - len(message["content"]))
        ends.append(length)
    return "".join(parts), tuple(starts), tuple(ends)


def messages_of(context: Context) -> list[dict[str, Any]]:
    """The messages {"role", "content"} of a context, with their tool calls; none of one that is a text."""
    messages = []
    parts = json.loads(context.tool_use)["messages"] if context.tool_use else {}
    spans = zip(context.span_roles or (), context.span_starts, context.span_ends, strict=False)
    for place, (role, start, end) in enumerate(spans):
        message = {"role": role, "content": context.text[start:end]}
        part = parts.get(str(place))
        if part is not None:
            first, last = part.pop("content")
            message = {"role": role, "content": message["content"][first:last], **part}
        messages.append(message)
    return messages


def tools_in(context: Context) -> tuple[dict[str, Any], ...]:
    """The tools that the messages of a context could call; none where they are text."""
    return tuple(json.loads(context.tool_use)["tools"]) if context.tool_use else ()


def turn_starts(context: Context) -> Sequence[int]:
    """Where the heading of each message stands in the text; none of a context that is a text."""
    starts = []
    for number, (role, start) in enumerate(zip(context.span_roles or (), context.span_starts, strict=False), 1):
        starts.append(start - len(turn_heading(number, role)))
    return starts
