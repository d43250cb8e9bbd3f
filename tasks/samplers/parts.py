"""Parts of a context as a context of its own: what a sample sees that does not see the whole one."""

from collections.abc import Sequence
from typing import Any

from infra.canonical import text_id
from tasks.planning.passages import Passages, render
from tasks.questions.chat import chat_text, exchanges_of, join_messages
from tasks.records.example import Context, Document
from tasks.records.history import messages_of, tools_in

Span = tuple[int, int]  # [start, end) in characters of a context's text
_GAP = "\n\n"


def context_of_parts(context: Context, spans: Sequence[Span], language: str, passages: str) -> Context:
    """Parts of a context in their order, as passages of the documents that they are of, or as messages.

    Of chat messages the parts are those that begin in a span. `passages` is the recipe's form of passages. The tokens
    of the result are not counted: they are 0.
    """
    if context.span_roles is not None:
        parts = _messages(context, spans, language)
    elif len(context.span_starts) > 1:
        documents = []
        for start, end in spans:
            documents.append(Document(_title_at(context, start), context.text[start:end].strip()))
        parts = render(documents, language, passages)
    else:
        text = _GAP.join(context.text[start:end].strip() for start, end in spans)
        parts = Passages(text, (0,), (len(text),), ("",))
    spans_of_parts = parts.starts, parts.ends, parts.titles
    return Context(text_id(parts.text), parts.text, 0, *spans_of_parts, parts.roles, parts.tool_use)


def message_spans(context: Context) -> list[Span]:
    """The contents of the messages of a history."""
    return list(zip(context.span_starts, context.span_ends, strict=True))


def _messages(context: Context, spans: Sequence[Span], language: str) -> Passages:
    """Messages that begin in the spans, by turns, as the builder of histories writes them. A call and its results are
    never parted: all are there where one is."""
    messages: list[dict[str, Any]] = []
    titles: list[str] = []
    numbers: set[int] = set()
    exchanges = exchanges_of(messages_of(context))
    for number, start in enumerate(context.span_starts):
        if any(first <= start < end for first, end in spans):
            numbers.update(exchanges[number])
    for number, (message, title) in enumerate(zip(messages_of(context), context.span_titles, strict=True)):
        if number in numbers:
            messages.append(message)
            titles.append(title)
    joined, places = join_messages(messages, language)
    text = chat_text(joined, language, tools_in(context))
    of_messages = tuple(titles[place] for place in places)
    return Passages(text.text, text.starts, text.ends, of_messages, text.roles, text.tool_use)


def _title_at(context: Context, place: int) -> str:
    """The title of the document that a place is in; of one between two, that of the next."""
    for end, title in zip(context.span_ends, context.span_titles, strict=True):
        if place < end:
            return title
    return ""
