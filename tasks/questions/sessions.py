"""Chat messages that a question is about: sessions of turns, as formats of dialogues and of agents have them.

Roles are those of the OpenAI messages: "user", "assistant", "system" and "tool". What a chat template may have no place
for is text of a turn (`flat_turns`): tool calls and results, system messages within a history, time stamps. Where a
template has a place for calls and results, chat.py makes messages of them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from infra.models.tool_calls import json_text, read_tool
from tasks.prompts import load_prompt
from tasks.questions.question import Session, SourceRow, Turn, fault, language_code

_CALLING = "function_call"  # ShareGPT's turn, and the field of OpenAI's older form

ROLES = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    _CALLING: "assistant",
}
_REMEDY = 'write each message as {"role": "user" | "assistant" | "system" | "tool", "content": "..."}'


def read_turns(row: SourceRow, field: str, messages: Any) -> tuple[Turn, ...]:
    """Messages of a row: OpenAI's {"role", "content", "tool_calls"?, "name"?}, or ShareGPT's {"from", "value"}.

    Content may be text, a list of parts of which those of text are read, or null; blanks alone are none. A turn of
    "function_call" calls tools where its value is the JSON of calls, and is text else. Turns that say nothing are there
    too. Raises InputError.
    """
    if not isinstance(messages, (list, tuple)):
        raise fault(row, field, "is no list of messages", _REMEDY)
    turns: list[Turn] = []
    names: dict[str, str] = {}  # of tools, by the id of their call
    for message in messages:
        if not isinstance(message, Mapping):
            raise fault(row, field, f"holds {type(message).__name__} instead of a message", _REMEDY)
        stated = str(message.get("role") or message.get("from") or "").lower()
        if stated not in ROLES:
            raise fault(row, f"{field}.role", f"is {stated!r}", _REMEDY)
        text, listed = _content(row, field, message), _listed_calls(message)
        if stated == _CALLING and (written := _calls_in_text(text)):
            text, listed = "", written
        calls, call_ids = _calls(listed, names)
        name = str(message.get("name") or "")
        call_id = ""
        if ROLES[stated] == "tool":
            call_id = str(message.get("tool_call_id") or "")
            name = name or names.get(call_id, "")
        time = str(message.get("timestamp") or message.get("time") or "")
        turns.append(Turn(ROLES[stated], text if text.strip() else "", name, calls, time, call_ids, call_id))
    return tuple(turns)


def read_tools(value: Any) -> tuple[str, ...]:
    """The tools of a row, each as JSON: a list of them, or its JSON text. What is no tool of OpenAI's form is left out:
    a field of this name may hold something else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return ()
    tools = map(read_tool, value if isinstance(value, (list, tuple)) else ())
    return tuple(json_text(tool) for tool in tools if tool is not None)


def _content(row: SourceRow, field: str, message: Mapping[str, Any]) -> str:
    content = message.get("content", message.get("value"))
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, (list, tuple)):
        texts = [str(part["text"]) for part in content if isinstance(part, Mapping) and part.get("text")]
        return "\n".join(texts)
    raise fault(row, f"{field}.content", f"holds {type(content).__name__} instead of text", _REMEDY)


def _listed_calls(message: Mapping[str, Any]) -> Sequence[Any]:
    """The tool calls of a message of OpenAI's form, the older one too."""
    if isinstance(message.get(_CALLING), Mapping):
        return [{"function": message[_CALLING]}]
    listed = message.get("tool_calls")
    return listed if isinstance(listed, (list, tuple)) else ()


def _calls_in_text(text: str) -> list[dict[str, Any]]:
    """The calls that ShareGPT's turn of "function_call" writes: {"name", "arguments"} as JSON, or a list of them.

    None at all where any of it is something else.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    calls = value if isinstance(value, list) else [value]
    if not all(isinstance(call, Mapping) and isinstance(call.get("name"), str) and call["name"] for call in calls):
        return []
    return [{"function": call} for call in calls]


def _calls(listed: Sequence[Any], names: dict[str, str]) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """(name, arguments) of listed tool calls, and their ids, by which the names are remembered."""
    calls, ids = [], []
    for call in listed:
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping):
            continue
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        calls.append((str(function.get("name") or ""), arguments))
        ids.append(str(call.get("id") or ""))
        names[str(call.get("id"))] = str(function.get("name") or "")
    return tuple(calls), tuple(ids)


def turn_text(name: str, language: str, **values: str) -> str:
    """The text of the prompt file `turn-NAME.txt` in a language; in English where there is no such language."""
    return load_prompt(f"turn-{name}", language_code(language) or "en").render(**values)


def flat_turns(session: Session, language: str) -> list[Turn]:
    """The turns of a session as "user" and "assistant", all of whose parts are text.

    The session's time stands before its first turn, a turn's own where it has one. What a tool or the system says is
    the user's side of the conversation: not every chat template has a place for it.
    """
    turns: list[Turn] = []
    time = session.time
    for turn in session.spoken:
        text = _text_of(turn, language)
        if turn.time or time:
            text = turn_text("dated", language, time=turn.time or time, text=text)
        time = ""
        turns.append(Turn("assistant" if turn.role == "assistant" else "user", text))
    return turns


def session_text(session: Session, language: str = "en") -> str:
    """A session as one text, a line for each message: for contexts that are texts."""
    lines = []
    for turn in session.spoken:
        parts = [turn.text] if turn.text else []
        parts += [f"{name} {arguments}" for name, arguments in turn.calls]
        lines.append(f"{turn.name or turn.role}: " + (" ".join(parts) or result_text(turn.name, "", language)))
    return "\n".join(lines)


def result_text(tool: str, text: str, language: str) -> str:
    """The result of a tool under a line that names the tool; of an empty one that nothing came."""
    if text:
        return turn_text("result", language, tool=tool, text=text)
    return turn_text("result-empty", language, tool=tool)


def silent_note(histories: Iterable[int]) -> list[str]:
    """What a plan says of turns that say nothing, by how many there are in each history; nothing of none."""
    counts = list(filter(None, histories))
    if not counts:
        return []
    return [f"{sum(counts)} messages of {len(counts)} histories have no text and no tool call, and are left out"]


def _text_of(turn: Turn, language: str) -> str:
    """What a turn says, with its tool calls, or with what it is where it is no message of a person or a model."""
    if turn.role == "tool":
        return result_text(turn.name, turn.text, language)
    if turn.role == "system":
        return turn_text("system", language, text=turn.text)
    text = spoken_text(turn)
    parts = [text] if text else []
    for name, arguments in turn.calls:
        parts.append(turn_text("call", language, tool=name, arguments=arguments))
    return "\n".join(parts)


def spoken_text(turn: Turn) -> str:
    """What a person or a model says in a turn, after the name of the speaker where there is one."""
    if not turn.text.strip():
        return ""
    return f"{turn.name}: {turn.text}" if turn.name else turn.text
