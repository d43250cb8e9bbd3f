"""Chat messages as one text, and that text as messages again: the canonical form of a context that is a history.

    [1] user: I graduated in May.

    [2] assistant: Congratulations!

The number and the role stand before what a message says, so that a passage of the text says whose turn it is. Spans are
exactly the messages' contents.
"""

from collections.abc import Iterable, Mapping, Sequence

from tasks.records.example import Context

_GAP = "\n\n"


def turn_heading(number: int, role: str) -> str:
    """What stands before a message; numbers count from 1."""
    return f"[{number}] {role}: "


def history_text(messages: Iterable[Mapping[str, str]]) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """(the text of messages {"role", "content"}, where each content starts, where it ends)."""
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    length = 0
    for number, message in enumerate(messages, 1):
        gap = _GAP if parts else ""
        parts.append(f"{gap}{turn_heading(number, message['role'])}{message['content']}")
        length += len(parts[-1])
        starts.append(length - len(message["content"]))
        ends.append(length)
    return "".join(parts), tuple(starts), tuple(ends)


def messages_of(context: Context) -> list[dict[str, str]]:
    """The messages {"role", "content"} of a context; none of one that is a text."""
    messages = []
    for role, start, end in zip(context.span_roles or (), context.span_starts, context.span_ends, strict=False):
        messages.append({"role": role, "content": context.text[start:end]})
    return messages


def turn_starts(context: Context) -> Sequence[int]:
    """Where the heading of each message stands in the text; none of a context that is a text."""
    starts = []
    for number, (role, start) in enumerate(zip(context.span_roles or (), context.span_starts, strict=False), 1):
        starts.append(start - len(turn_heading(number, role)))
    return starts


def prompt_text(messages: Sequence[Mapping[str, str]]) -> str:
    """A prompt as one text to show: its last message, with the messages of a history before it."""
    earlier = [message for message in messages[:-1] if message["role"] != "system"]
    if not earlier:
        return messages[-1]["content"]
    text, _, _ = history_text(earlier)
    return f"{text}{_GAP}{messages[-1]['content']}"
