"""Reading a chat completion: its text, how it ended, its counts, in the ways that servers write them.

A completion is finished when it ended by itself or at max_tokens: only such a text is an answer. Every other ending has
a name, the server's own where it is not one of these: "content_filter", "refused" (the model declined in a field of its
own), "tool_calls", "error", "abort", "unknown" (the server does not say). Special tokens that a server has left at the
end of a text are cut. Left out: streaming, and several choices in one reply.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

STOP, LENGTH = "stop", "length"
FINISHED = frozenset({STOP, LENGTH})  # finish reasons of calls that brought an answer, empty or not
REFUSED, UNKNOWN = "refused", "unknown"

_NAMES = {
    "stop": STOP,
    "eos": STOP,
    "eos_token": STOP,  # TGI
    "stop_sequence": STOP,  # TGI, Anthropic
    "end_turn": STOP,  # Anthropic, xAI
    "stop_str": STOP,
    "complete": STOP,  # Cohere
    "completed": STOP,
    "length": LENGTH,
    "max_tokens": LENGTH,  # Anthropic, Gemini
    "max_length": LENGTH,
    "model_length": LENGTH,  # Mistral
    "model_context_window_exceeded": LENGTH,  # Anthropic, Zhipu
    "content_filter": "content_filter",
    "content_filtered": "content_filter",
    "safety": "content_filter",  # Gemini, and the next four
    "recitation": "content_filter",
    "prohibited_content": "content_filter",
    "blocklist": "content_filter",
    "spii": "content_filter",
    "sensitive": "content_filter",  # Zhipu
    "refusal": REFUSED,  # Anthropic
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",  # Anthropic
    "function_call": "tool_calls",
    "malformed_function_call": "tool_calls",  # Gemini
    "error": "error",
    "network_error": "error",  # Zhipu
    "insufficient_system_resource": "error",  # DeepSeek
    "abort": "abort",
    "aborted": "abort",
    "cancelled": "abort",
}
_NAME_CHARACTERS = 40
_MOST_TOKENS = 2**31  # a larger count is none
_SPECIAL_TOKEN_CHARACTERS = 24  # of the longest
_SPECIAL_TOKEN = re.compile(
    r"(?:<\|(?:im_end|im_start|eot_id|eom_id|end|endoftext|end_of_text|end_of_turn|END_OF_TURN_TOKEN|end_of_role|return"
    r"|eos|user|observation)\|>|</s>|<eos>|<end_of_turn>|<｜end▁of▁sentence｜>)\Z"
)


@dataclass(frozen=True, slots=True)
class Completion:
    """The fields of a chat completion's body that are used."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    reasoning: str = ""  # the message's field of its own for thinking
    reasoning_tokens: int = 0  # of completion_tokens; 0 when there is no count
    special_tokens: int = 0  # that were cut from the end of the text
    error: str = ""  # the JSON of an error beside the answer
    cached_tokens: int = 0  # of prompt_tokens: read before and still in the server's cache; 0 when there is no count


class BadReply(ValueError):
    """A body that is not a chat completion."""


class ErrorInReply(BadReply):
    """A body with status 200 that is an error; `status` is the one that it names, 502 without one."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"an error with status 200: {body[:200]}")
        self.status = status
        self.body = body


def read_completion(raw: str | bytes) -> Completion:
    """Read a chat completion's JSON. Raises BadReply when it is not one, ErrorInReply when it is an error instead."""
    try:
        body = json.loads(raw)
        if isinstance(body, dict) and body.get("error") and not body.get("choices"):
            raise _error_of(body["error"])
        choice = body["choices"][0]
        message = choice["message"]
        content = message["content"] if choice.get("finish_reason") is None else message.get("content")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as fault:
        if isinstance(fault, BadReply):
            raise
        start = raw[:200] if isinstance(raw, str) else raw[:200].decode("utf-8", "replace")
        raise BadReply(f"not a chat completion ({type(fault).__name__}: {fault}): {start!r}") from fault
    reasoning = _text(message.get("reasoning")) or _text(message.get("reasoning_content"))
    if isinstance(content, list):
        content, thinking = _parts(content)
        reasoning = reasoning or thinking
    if content is not None and not isinstance(content, str):
        raise BadReply(f"the message's content is {type(content).__name__}, not text")
    text, special_tokens = _without_special_tokens(_without_half_surrogates(content or ""))
    error = body.get("error") or choice.get("error")
    usage = _fields(body.get("usage"))
    return Completion(
        text,
        "error" if error else _ending(choice.get("finish_reason"), text, message),
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        _without_half_surrogates(reasoning),
        _count(_fields(usage.get("completion_tokens_details")).get("reasoning_tokens")),
        special_tokens,
        json.dumps({"error": error}) if error else "",
        _count(_cached(usage)),
    )


def _cached(usage: dict[str, Any]) -> Any:
    """Prompt tokens from the server's cache; DeepSeek has a field of its own for them."""
    return _fields(usage.get("prompt_tokens_details")).get("cached_tokens") or usage.get("prompt_cache_hit_tokens")


def refusal_in(raw: str) -> str:
    """What the model says in a field of its own to decline; empty where it does not."""
    try:
        refusal = json.loads(raw)["choices"][0]["message"].get("refusal")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return ""
    return refusal if isinstance(refusal, str) else ""


def _error_of(error: Any) -> ErrorInReply:
    """An error in the place of a reply: its code is the status that it would have had."""
    code = str(error.get("code")) if isinstance(error, dict) else ""
    return ErrorInReply(int(code) if re.fullmatch(r"[45][0-9][0-9]", code) else 502, json.dumps({"error": error}))


def _ending(value: Any, text: str, message: dict[str, Any]) -> str:
    """The name of an ending; `UNKNOWN` where the server gives none."""
    if not text.strip():
        if _text(message.get("refusal")).strip():
            return REFUSED
        if message.get("tool_calls") or message.get("function_call"):
            return "tool_calls"
    if not isinstance(value, str) or not value.strip():
        return UNKNOWN
    name = value.strip().lower()
    return _NAMES.get(name) or re.sub(r"[^a-z0-9_-]", "_", name)[:_NAME_CHARACTERS]


def _without_special_tokens(text: str) -> tuple[str, int]:
    """A text without special tokens at its end, and how many there were."""
    if not text.rstrip().endswith(">"):
        return text, 0
    end, tokens = text.rstrip(), 0
    while match := _SPECIAL_TOKEN.search(end[-_SPECIAL_TOKEN_CHARACTERS:]):
        if match.group() == "</s>" and "<s>" in end:
            break  # text that is struck out in HTML
        end, tokens = end[: -len(match.group())].rstrip(), tokens + 1
    return (end, tokens) if tokens else (text, 0)


def _parts(content: list[Any]) -> tuple[str, str]:
    """The text and the thinking of a content in parts. Raises BadReply for a part that is neither."""
    texts: list[str] = []
    thinking: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(part, str):
            texts.append(part)
        elif kind in ("text", "output_text") and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind in ("thinking", "reasoning"):
            own = part.get("thinking") or part.get("reasoning") or part.get("text") or ""
            thinking.append(own if isinstance(own, str) else _parts(own)[0] if isinstance(own, list) else "")
        elif isinstance(kind, str) and kind not in ("text", "output_text"):
            continue  # a reference, an image: no part of the answer's text
        else:
            raise BadReply(f"the message's content has a part that is no text: {str(part)[:80]}")
    return "".join(texts), "\n".join(filter(None, thinking))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _fields(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int:
    """A count of tokens; 0 for what is none."""
    try:
        count = int(value or 0)
    except (ValueError, TypeError, OverflowError):
        return 0
    return count if 0 <= count < _MOST_TOKENS else 0


def _without_half_surrogates(text: str) -> str:
    """A text without halves of surrogate pairs, which JSON can hold as escapes and UTF-8 cannot encode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
