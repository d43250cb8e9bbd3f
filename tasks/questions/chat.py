"""Turns of sessions as the messages of a prompt, and these messages as the canonical text of a context.

There are two ways. `flat`: every turn is text of the user or the model (`flat_turns`). With tools: a turn that calls
tools and the results after it stay messages with `tool_calls` and the role "tool" (infra/models/tool_calls.py), where
they are whole: each call has its name, arguments that are a JSON object, and one result that follows at once, by id or
else by place. Such a message and its results are an exchange, which is never parted. Any other call or result is text
of its turn, so nothing is lost.

A context's text is for judges, who read tools as text in both ways. A message's text is what it says, for a result
under a line that names the tool, and its calls below.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.models.tool_calls import json_text, read_arguments, tool_call
from tasks.questions.question import Session, Turn
from tasks.questions.sessions import flat_turns, result_text, spoken_text, turn_text
from tasks.records.example import Context
from tasks.records.history import history_text, messages_of

Message = Mapping[str, Any]
_GAP = "\n\n"
_TOOL = "tool"
_PLACE = "\0"  # of the content, in a text that is put around it


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """A turn as a message. `exchange`: the number of its exchange in its session; None for a turn of its own."""

    message: dict[str, Any]
    exchange: int | None = None


@dataclass(frozen=True, slots=True)
class ChatText:
    """Messages as a context has them: the text, the span and role of each message, and what is no text (`tool_use`)."""

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    roles: tuple[str, ...]
    tool_use: str | None


def chat_turns(session: Session, language: str, *, with_tools: bool) -> list[ChatTurn]:
    """The turns of a session, with its tool calls as messages or as text."""
    if not with_tools:
        flat = flat_turns(session, language)
        return [ChatTurn({"role": turn.role, "content": turn.text}) for turn in flat]
    turns: list[ChatTurn] = []
    time, place = session.time, 0
    spoken = session.spoken
    while place < len(spoken):
        turn = spoken[place]
        results = _results(spoken, place)
        if results:
            for message in _exchange(turn, results, time, language):
                turns.append(ChatTurn(message, place))
            time = ""
        else:
            (flat_turn,) = flat_turns(Session(time, (turn,)), language)
            turns.append(ChatTurn({"role": flat_turn.role, "content": flat_turn.text}))
            time = ""
        place += 1 + len(results)
    return turns


def _results(turns: Sequence[Turn], place: int) -> Sequence[Turn]:
    """The results of the calls of a turn, one for each; none where the turn and its results are no exchange."""
    turn = turns[place]
    results = turns[place + 1 : place + 1 + len(turn.calls)]
    if len(results) < len(turn.calls) or any(result.role != _TOOL for result in results):
        return ()
    if not all(name and read_arguments(arguments) is not None for name, arguments in turn.calls):
        return ()
    ids = [result.call_id for result in results]
    if all(ids) and all(turn.call_ids) and sorted(ids) != sorted(turn.call_ids):
        return ()
    return results


def _exchange(turn: Turn, results: Sequence[Turn], time: str, language: str) -> list[dict[str, Any]]:
    """The messages of an exchange."""
    by_id = len(set(turn.call_ids)) == len(turn.call_ids) and all(result.call_id for result in results)
    ids = turn.call_ids if by_id and all(turn.call_ids) else ("",) * len(results)
    names = dict(zip(ids, (name for name, _ in turn.calls), strict=True))
    calls = []
    for call_id, (name, arguments) in zip(ids, turn.calls, strict=True):
        calls.append(tool_call(call_id, name, read_arguments(arguments) or {}))
    text = _dated(spoken_text(turn), turn.time or time, language)
    messages: list[dict[str, Any]] = [{"role": "assistant", "content": text, "tool_calls": calls}]
    for number, result in enumerate(results):
        name = names[result.call_id] if by_id and all(ids) else turn.calls[number][0]
        messages.append(
            {
                "role": _TOOL,
                "content": _result_content(result, name, language),
                "tool_call_id": result.call_id if all(ids) else "",
                "name": name,
            }
        )
    return messages


def _result_content(result: Turn, tool: str, language: str) -> str:
    """What a result is in a message of its own: an empty one is empty there, but says so in words beside its time."""
    text = result_text(tool, "", language) if result.time and not result.text else result.text
    return _dated(text, result.time, language)


def _dated(text: str, time: str, language: str) -> str:
    return turn_text("dated", language, time=time, text=text).rstrip("\n") if time else text


def tools_of(sessions: Iterable[Session]) -> tuple[dict[str, Any], ...]:
    """The tools of all sessions, of one name the first."""
    tools: dict[str, dict[str, Any]] = {}
    for session in sessions:
        for text in session.tools:
            tool = json.loads(text)
            tools.setdefault(tool["function"]["name"], tool)
    return tuple(tools.values())


def join_messages(messages: Iterable[Message], language: str) -> tuple[list[dict[str, Any]], list[int]]:
    """Messages of the user and the model by turns, the user's first, and the place of the first one in each.

    Neighbours of one side are one message; results, and what follows them, stay as they are. Calls without an id get
    one: nine letters and digits, as Mistral's templates want them.
    """
    joined: list[dict[str, Any]] = []
    places: list[int] = []
    for place, message in enumerate(messages):
        if not joined and message["role"] != "user":
            joined.append({"role": "user", "content": turn_text("begins", language)})
            places.append(place)
        last = joined[-1] if joined else None
        if last and last["role"] == message["role"] != _TOOL and "tool_calls" not in last:
            texts = filter(None, (last["content"], message["content"]))
            joined[-1] = {**last, **message, "content": _GAP.join(texts)}
            continue
        joined.append(dict(message))
        places.append(place)
    return _with_ids(joined), places


def without_ids(message: Message) -> dict[str, Any]:
    """The message without the ids of its calls, which get new ones when it is joined."""
    if "tool_calls" in message:
        return {**message, "tool_calls": [{**call, "id": ""} for call in message["tool_calls"]]}
    return {**message, "tool_call_id": ""} if message["role"] == _TOOL else dict(message)


def _with_ids(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages with an id for each call, and for each result that of its call, by their order."""
    count = 0
    waiting: list[str] = []  # ids that were given, whose results follow
    for message in messages:
        if "tool_calls" in message and not all(call["id"] for call in message["tool_calls"]):
            waiting = []
            calls = []
            for call in message["tool_calls"]:
                count += 1
                waiting.append(f"call{count:05d}")
                calls.append({**call, "id": waiting[-1]})
            message["tool_calls"] = calls
        elif message["role"] == _TOOL and not message["tool_call_id"]:
            message["tool_call_id"] = waiting.pop(0)
    return messages


def exchanges_of(messages: Sequence[Message]) -> list[range]:
    """For each message the numbers of those that it must not be parted from: an exchange's, or its own alone."""
    ranges: list[range] = []
    for number, message in enumerate(messages):
        if message["role"] == _TOOL:
            first = ranges[-1].start
            ranges[first:] = [range(first, number + 1)] * (number - first)
            ranges.append(range(first, number + 1))
        else:
            ranges.append(range(number, number + 1))
    return ranges


def chat_text(messages: Sequence[Message], language: str, tools: Sequence[Mapping[str, Any]] = ()) -> ChatText:
    """The canonical text of messages. Tools stand before all messages, where one of these calls a tool."""
    texts = []
    parts: dict[str, Any] = {}
    for place, message in enumerate(messages):
        before, _ = _around(message, language)
        texts.append({"role": message["role"], "content": message_text(message, language)})
        if "tool_calls" in message or message["role"] == _TOOL:
            own = {name: value for name, value in message.items() if name not in ("role", "content")}
            parts[str(place)] = {"content": [len(before), len(before) + len(message["content"])], **own}
    if not parts:
        tools = ()
    text, starts, ends = history_text(texts, tools_text(tools, language))
    tool_use = None
    if parts:
        tool_use = json.dumps({"tools": list(tools), "messages": parts}, ensure_ascii=False, separators=(",", ":"))
    return ChatText(text, starts, ends, tuple(message["role"] for message in texts), tool_use)


def message_text(message: Message, language: str) -> str:
    """What a message says, with its tool calls, or under a line that names the tool whose result it is."""
    before, after = _around(message, language)
    return f"{before}{message['content']}{after}"


def _around(message: Message, language: str) -> tuple[str, str]:
    """What stands before and after a message's content in the text of a context."""
    if message["role"] == _TOOL and "tool_call_id" in message:
        if not message["content"]:
            return result_text(message["name"], "", language), ""
        before, _, after = result_text(message["name"], _PLACE, language).partition(_PLACE)
        return before, after
    calls = []
    for call in message.get("tool_calls", ()):
        function = call["function"]
        calls.append(turn_text("call", language, tool=function["name"], arguments=json_text(function["arguments"])))
    return "", ("\n" if calls and message["content"] else "") + "\n".join(calls)


def tools_text(tools: Sequence[Mapping[str, Any]], language: str) -> str:
    """Tools as text, a line for each; empty for none."""
    lines = [json_text(tool["function"]) for tool in tools]
    return turn_text("tools", language, tools="\n".join(lines)) if lines else ""


def flat_messages(messages: Iterable[Message], language: str) -> list[dict[str, str]]:
    """Messages without anything but text, for models whose chat template knows no tools; the same where they are."""
    messages = list(messages)
    if not any("tool_calls" in message for message in messages):
        return list(map(dict, messages))
    flat = []
    for message in messages:
        if "tool_calls" not in message and message["role"] != _TOOL:
            flat.append(dict(message))
            continue
        role = "user" if message["role"] == _TOOL else message["role"]
        flat.append({"role": role, "content": message_text(message, language)})
    first, rest = ([flat[0]], flat[1:]) if flat and flat[0]["role"] == "system" else ([], flat)
    return [*first, *join_messages(rest, language)[0]]


def flat_context(context: Context, language: str) -> Context:
    """A context whose messages are all text; the same one where they are."""
    if context.tool_use is None:
        return context
    flat = chat_text(flat_messages(messages_of(context), language), language)
    titles = ("",) * len(flat.roles)
    return Context(context.context_id, flat.text, context.tokens, flat.starts, flat.ends, titles, flat.roles)


def prompt_text(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = (), language: str = "en") -> str:
    """A prompt as one text to show: its last message, with the messages of a history before it."""
    last: str = messages[-1]["content"]
    earlier = [message for message in messages[:-1] if message["role"] != "system"]
    return f"{chat_text(earlier, language, tools).text}{_GAP}{last}" if earlier else last
