"""Markdown: the text as it is, its headings (`# ...`, underlined ones too) found, its front matter left out."""

import re
from collections.abc import Iterator

from infra.recipe import Documents
from tasks.documents.document import DocumentFormat, Heading, Parsed, SourceFile
from tasks.documents.encodings import decoded

_FRONT_MATTER = re.compile(r"\A---\n.*?\n(?:---|\.\.\.)\n", re.DOTALL)
_LINE = re.compile(r"^(?P<hashes>#{1,6})[ \t]+(?P<title>.+?)[ \t]*#*[ \t]*$|^(?P<fence>```|~~~)", re.MULTILINE)
_UNDERLINED = re.compile(r"^(?P<title>[^\s#>*+|`~-][^\n]*)\n(?P<line>=+|-{3,})[ \t]*$", re.MULTILINE)


def read_markdown(file: SourceFile, settings: Documents) -> Iterator[Parsed]:
    """The whole file as one document; its first heading of the highest level is the title."""
    text = without_front_matter(decoded(file.content()))
    headings = markdown_headings(text)
    yield Parsed(text, title_of(headings), headings)


def without_front_matter(text: str) -> str:
    """Markdown without the block of settings that it may begin with."""
    return _FRONT_MATTER.sub("", text, count=1)


def markdown_headings(text: str) -> tuple[Heading, ...]:
    """The headings of a text in Markdown, those in code left out."""
    headings = []
    fence = ""
    fenced: list[tuple[int, int]] = []
    opened = 0
    for match in _LINE.finditer(text):
        mark = match["fence"]
        if mark:
            if not fence:
                fence, opened = mark, match.start()
            elif mark == fence:
                fence = ""
                fenced.append((opened, match.end()))
        elif not fence:
            headings.append(Heading(match.start(), len(match["hashes"]), match["title"].strip()))
    if fence:
        fenced.append((opened, len(text)))
    for match in _UNDERLINED.finditer(text):
        if not any(start <= match.start() < end for start, end in fenced):
            headings.append(Heading(match.start(), 1 if match["line"].startswith("=") else 2, match["title"].strip()))
    return tuple(sorted(headings, key=lambda heading: heading.start))


def title_of(headings: tuple[Heading, ...]) -> str:
    """The first heading of the highest level there is; empty without headings."""
    if not headings:
        return ""
    return min(headings, key=lambda heading: heading.level).title


FORMAT = DocumentFormat("markdown", read_markdown, "Markdown, with its headings", (".md", ".markdown"))
