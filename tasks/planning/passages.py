"""Documents as one text: numbered passages in the question's language, with a blank line between.

    Passage 1: TITLE          段落 1：TITLE
    TEXT                      TEXT

A title's line ends become spaces, so that it stays one line. Spans are exactly the documents' texts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from infra.models.tokens import Tokenizer, rough_tokens
from tasks.records.example import Document


@dataclass(frozen=True, slots=True)
class Passages:
    """A context's text, and for each document [start, end) of its text, in characters, and its title."""

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    titles: tuple[str, ...]


def render(documents: Sequence[Document], language: str) -> Passages:
    """Documents as numbered passages, in their order."""
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    titles: list[str] = []
    length = 0  # characters so far
    for number, document in enumerate(documents, 1):
        gap = "\n\n" if parts else ""
        parts.append(f"{gap}{heading(number, document, language)}{document.text}")
        length += len(parts[-1])
        starts.append(length - len(document.text))
        ends.append(length)
        titles.append(document.title)
    return Passages("".join(parts), tuple(starts), tuple(ends), tuple(titles))


def heading(number: int, document: Document, language: str) -> str:
    """The line above a document's text, with its line end."""
    title = " ".join(document.title.split())
    if language == "zh":
        return f"段落 {number}：{title}\n"
    return f"Passage {number}:{' ' if title else ''}{title}\n"


def passage_tokens(documents: Iterable[Document], tokenizer: Tokenizer) -> list[int]:
    """About how many tokens each document takes as a passage, with the blank line after it."""
    passages = []
    for document in documents:
        passages.append(f"{heading(100, document, 'en')}{document.text}\n\n")
    return rough_tokens(tokenizer, passages)
