"""The thinking of a reasoning model: where it stands in a reply, and the answer without it.

A server with a reasoning parser sends the thinking in a field of its own. Otherwise it stands in the text:

    <think> … </think> answer      a block at the start, after blanks at most
    … </think> answer              the prompt's template has opened the block, so the text has the closing tag alone

The block ends at the first closing tag. Without an opening tag, a closing tag ends a block only where it stands alone
on its line and no opening tag comes before it: an answer may write about these tags. For a model that is declared to
think always, the first closing tag ends the block wherever it stands, and a text that was cut at max_tokens before
one is thinking from its first word on. Leaves out: tags of other names, which a server's own parser knows.
"""

import re
from dataclasses import dataclass
from typing import Literal

OPENING, CLOSING = "<think>", "</think>"
UNFINISHED = "unfinished_thinking"  # finish reason of a reply that ended within its thinking
_CLOSING_LINE = re.compile(r"(?:^|\n)[ \t]*</think>[ \t\r]*(?=\n|$)")

Reasoning = Literal["auto", "always", "keep"]  # the recipe's key `reasoning` of a model


@dataclass(frozen=True, slots=True)
class Parts:
    """A reply in two. `finished` is False when the thinking never ended; then the answer is empty."""

    thinking: str
    answer: str
    finished: bool = True


def split_thinking(text: str, field: str, cut: bool, always: bool) -> Parts:
    """A reply's thinking and its answer.

    `text` is the message's content, `field` its reasoning field; `cut`: the reply has hit max_tokens; `always`: the
    model always thinks. A text without thinking is returned as it came, blanks included.
    """
    if field.strip():
        if not text.strip():
            return Parts(field, "", finished=False)
        inner = _split_text(text) if text.lstrip().startswith(OPENING) else Parts("", text)
        return Parts(f"{field}\n{inner.thinking}" if inner.thinking else field, inner.answer, inner.finished)
    if always and not text.lstrip().startswith(OPENING):
        thinking, closing, answer = text.partition(CLOSING)
        if closing:
            return Parts(thinking.strip(), answer.lstrip())
        return Parts(text.strip(), "", finished=False) if cut else Parts("", text)
    return _split_text(text)


def joined(text: str, field: str) -> str:
    """The whole reply as one text: what a server's parser has taken out stands before it, in tags."""
    return f"{OPENING}\n{field.strip()}\n{CLOSING}\n\n{text}" if field.strip() else text


def _split_text(text: str) -> Parts:
    start = text.lstrip()
    if start.startswith(OPENING):
        thinking, closing, answer = start.removeprefix(OPENING).partition(CLOSING)
        return Parts(thinking.strip(), answer.lstrip(), finished=bool(closing))
    closing_line = _CLOSING_LINE.search(text)
    if closing_line is None or OPENING in text[: closing_line.start()] or CLOSING in text[: closing_line.start()]:
        return Parts("", text)
    return Parts(text[: closing_line.start()].strip(), text[closing_line.end() :].lstrip())
