"""Over-long prompts: the middle of the context is cut out, so that the prompt fits the model's window.

As in LongBench, the first half and the last half of the text that fits are joined as they are. Lengths are in tokens
of the policy's tokenizer, and the whole prompt is counted again after the cut, because two ends that meet may make
other tokens. Cuts fall between characters, never inside one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from infra.models.tokens import Tokenizer
from tasks.questions.chat import chat_text, exchanges_of, join_messages
from tasks.records.example import Context
from tasks.records.history import messages_of, tools_in

Span = tuple[int, int]  # [start, end) in characters


@dataclass(frozen=True, slots=True)
class Fitted:
    """A context that fits, and the prompt's tokens before and after the cut. Chat messages stay messages."""

    context: Context | str
    tokens_before: int
    tokens: int

    @property
    def text(self) -> str:
        """The text of the context."""
        return self.context if isinstance(self.context, str) else self.context.text

    @property
    def cut(self) -> bool:
        """Whether anything was cut out."""
        return self.tokens < self.tokens_before


def fit_context(text: str, limit: int, tokenizer: Tokenizer, prompt_tokens: Callable[[str], int]) -> Fitted:
    """Cut the middle of `text` until the prompt around it has at most `limit` tokens.

    `prompt_tokens` counts the whole prompt around a context. When the prompt does not fit even without any
    context, the text is empty and `tokens` stays above the limit: the server will say so.
    """
    before = tokens = prompt_tokens(text)
    if tokens <= limit:
        return Fitted(text, before, tokens)
    units, per_token = token_spans(text, tokenizer), 1.0
    if units is None:  # the tokenizer does not give the places of its tokens: the units are characters
        units = [(place, place + 1) for place in range(len(text))]
        per_token = len(text) / max(1, before - prompt_tokens(""))
    remaining, cut_text = len(units), text
    while tokens > limit and remaining > 0:
        remaining = max(0, remaining - math.ceil((tokens - limit) * per_token))
        cut_text = cut_middle(text, units, remaining)
        tokens = prompt_tokens(cut_text)
    return Fitted(cut_text, before, tokens)


def fit_messages(context: Context, limit: int, language: str, prompt_tokens: Callable[[Context], int]) -> Fitted:
    """As `fit_context`, of a context of chat messages: whole ones in the middle are left out, two neighbours at once.

    So the user's and the model's still come by turns. Where there are tool calls, each is left out with its results,
    and neighbours of one side are joined.
    """
    before = tokens = prompt_tokens(context)
    cut_context, messages = context, messages_of(context)
    tools = tools_in(context)
    while tokens > limit and len(messages) > 2:
        share = (tokens - limit) / tokens
        shorter = _without_pairs(messages, share) if context.tool_use is None else _without_units(messages, share)
        if len(shorter) == len(messages):
            break
        messages, _ = join_messages(shorter, language)
        own = chat_text(messages, language, tools)
        titles = ("",) * len(own.roles)
        cut_context = Context(context.context_id, own.text, 0, own.starts, own.ends, titles, own.roles, own.tool_use)
        tokens = prompt_tokens(cut_context)
    return Fitted(cut_context, before, tokens)


def _without_pairs(messages: list[dict[str, Any]], share: float) -> list[dict[str, Any]]:
    """The messages without about a share of them in the middle, by two."""
    count = 2 * max(1, math.ceil(share * len(messages) / 2))
    start = max(0, (len(messages) - count) // 2)
    start -= start % 2
    return [*messages[:start], *messages[start + count :]]


def _without_units(messages: list[dict[str, Any]], share: float) -> list[dict[str, Any]]:
    """The messages without about a share of them, from the middle outwards, a call with its results; the first and the
    last stay."""
    units = exchanges_of(messages)
    middle = (len(messages) - 1) / 2
    count = max(1, math.ceil(share * len(messages)))
    left_out: set[int] = set()
    for number in sorted(range(len(messages)), key=lambda number: (abs(number - middle), number)):
        has_edge = units[number].start == 0 or units[number].stop == len(messages)
        if len(left_out) < count and not has_edge:
            left_out.update(units[number])
    return [message for number, message in enumerate(messages) if number not in left_out]


def cut_middle(text: str, spans: Sequence[Span], count: int) -> str:
    """The text of the first ceil(count / 2) and the last floor(count / 2) of its spans.

    Spans may share a character, as a byte-level tokenizer's parts of one emoji do. A character of which a part is cut
    is left out as a whole.
    """
    tail = count // 2
    head = count - tail
    left, right = 0, len(text)
    if head:
        start, left = spans[head - 1]
        if head < len(spans) and spans[head][0] < left:
            left = start
    if tail:
        right, end = spans[-tail]
        if tail < len(spans) and spans[-tail - 1][1] > right:
            right = end
    return text[:left] + text[max(left, right) :]


def token_spans(text: str, tokenizer: Tokenizer) -> list[Span] | None:
    """The place of each token of the text, in characters; None for a tokenizer without places."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    return list(backend.encode(text, add_special_tokens=False).offsets)
