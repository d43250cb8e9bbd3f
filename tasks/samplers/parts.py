"""Parts of a context as a context of its own: what a sample sees that does not see the whole one."""

from collections.abc import Sequence

from infra.canonical import text_id
from tasks.planning.passages import Passages, render
from tasks.questions.sessions import turn_text
from tasks.records.example import Context, Document
from tasks.records.history import history_text, messages_of

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
    return Context(text_id(parts.text), parts.text, 0, parts.starts, parts.ends, parts.titles, parts.roles)


def message_spans(context: Context) -> list[Span]:
    """The contents of the messages of a history."""
    return list(zip(context.span_starts, context.span_ends, strict=True))


def _messages(context: Context, spans: Sequence[Span], language: str) -> Passages:
    """Messages that begin in the spans, by turns, as the builder of histories writes them."""
    messages: list[dict[str, str]] = []
    titles: list[str] = []
    for message, start, title in zip(messages_of(context), context.span_starts, context.span_titles, strict=True):
        if not any(first <= start < end for first, end in spans):
            continue
        if not messages and message["role"] == "assistant":
            messages.append({"role": "user", "content": turn_text("begins", language)})
            titles.append(title)
        if messages and messages[-1]["role"] == message["role"]:
            messages[-1]["content"] += f"{_GAP}{message['content']}"
            continue
        messages.append(dict(message))
        titles.append(title)
    text, starts, ends = history_text(messages)
    return Passages(text, starts, ends, tuple(titles), tuple(message["role"] for message in messages))


def _title_at(context: Context, place: int) -> str:
    """The title of the document that a place is in; of one between two, that of the next."""
    for end, title in zip(context.span_ends, context.span_titles, strict=True):
        if place < end:
            return title
    return ""
