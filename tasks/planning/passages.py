"""Documents as one text: passages in the question's language, with a blank line between.

How a passage is written is a prompt file, `tasks/prompts/LANGUAGE/passage-NAME.txt`, of heading and {text}; another one
is another file. `numbered`, the default:

    Passage 1: TITLE          段落 1：TITLE
    TEXT                      TEXT

A title's line ends become spaces, so that it stays one line; a line of the heading that is empty, as without a title,
is left out. Spans are exactly the documents' texts.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from infra.errors import RecipeError
from infra.models.tokens import Tokenizer, rough_tokens
from tasks.prompts import PromptText, load_prompt
from tasks.records.example import Document

NUMBERED = "numbered"
_TEXT = "{text}"


@dataclass(frozen=True, slots=True)
class Passages:
    """A context's text, and for each part (a document) [start, end) of its text, in characters, and its title."""

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    titles: tuple[str, ...]
    roles: tuple[str, ...] | None = None  # of chat messages, of which the spans are the texts
    tool_use: str | None = None  # of chat messages with tool calls, as a context has it


def render(documents: Sequence[Document], language: str, form: str = NUMBERED) -> Passages:
    """Documents as passages, in their order; `form` is the NAME of the prompt file."""
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    titles: list[str] = []
    length = 0  # characters so far
    for number, document in enumerate(documents, 1):
        gap = "\n\n" if parts else ""
        parts.append(f"{gap}{heading(number, document, language, form)}{document.text}")
        length += len(parts[-1])
        starts.append(length - len(document.text))
        ends.append(length)
        titles.append(document.title)
    return Passages("".join(parts), tuple(starts), tuple(ends), tuple(titles))


def heading(number: int, document: Document, language: str, form: str = NUMBERED) -> str:
    """The lines above a document's text, with their line ends."""
    filled = heading_prompt(form, language).render(number=str(number), title=" ".join(document.title.split()))
    lines = ""
    for line in filled.split("\n"):
        if line.strip():
            lines += f"{line.rstrip()}\n"
    return lines


@cache
def heading_prompt(form: str, language: str) -> PromptText:
    """The part of a passage's prompt file before {text}. Raises RecipeError for a file that is none of a passage."""
    prompt = load_prompt(f"passage-{form}", language)
    start, text, rest = prompt.text.partition(_TEXT)
    others = set(re.findall(r"\{([a-z_]+)\}", start)) - {"number", "title"}
    inline = bool(start) and not start.endswith("\n")
    if not text or rest or others or inline:
        raise RecipeError(
            f"contexts.passages: the prompt {prompt.name!r} ({language}) must end with a line {{text}}, and may have "
            "{number} and {title} in lines before it"
        )
    return replace(prompt, text=start)


def passage_tokens(documents: Iterable[Document], tokenizer: Tokenizer, form: str = NUMBERED) -> list[int]:
    """About how many tokens each document takes as a passage, with the blank line after it."""
    passages = []
    for document in documents:
        passages.append(f"{heading(100, document, 'en', form)}{document.text}\n\n")
    return rough_tokens(tokenizer, passages)
