"""What all document formats share: the types of a file, of what is parsed from it, and of a document.

A format is one file in tasks/documents/formats with `FORMAT = DocumentFormat(...)`; adding the file is all that it
takes. `read` gets a file and gives what it parses from it: one text, or one for each row; in place of a row that cannot
be used, an UnreadableError. It raises UnreadableError for a file of which nothing (more) can be read. Empty texts,
lengths, languages and duplicates are looked after for all formats in one place, `read_documents`.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.errors import UnreadableError
from infra.recipe import Documents
from infra.store.sources import file_faults, file_system, open_unpacked

LARGEST_FILE = 1 << 28  # bytes of a file that is one document


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading in a document's text. `start`: its first character's offset; `level` counts from 1."""

    start: int
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """A document as it is used. `document_id` is the sha256 of `text`; offsets count characters of `text`."""

    document_id: str
    title: str
    text: str
    headings: tuple[Heading, ...]  # by their place in the text
    page_starts: tuple[int, ...]  # offset at which each page begins, page 1 first; empty where there are no pages
    language: str  # "en", "zh", or another two-letter code
    source: str  # file or URL relative to the source, with "#ROW" (from 1) for a row of a file
    metadata: str  # a JSON object

    def page_at(self, offset: int) -> int | None:
        """The number (from 1) of the page with this character; None for a document without pages."""
        page = None
        for number, start in enumerate(self.page_starts, 1):
            if start > offset:
                break
            page = number
        return page

    def headings_at(self, offset: int) -> tuple[Heading, ...]:
        """The headings that this character stands under, the highest first."""
        path: list[Heading] = []
        for heading in self.headings:
            if heading.start > offset:
                break
            path = [higher for higher in path if higher.level < heading.level]
            path.append(heading)
        return tuple(path)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a format reads from a file or a row. `row` counts from 1; 0 where the file is one document."""

    text: str
    title: str = ""
    headings: tuple[Heading, ...] = ()
    page_starts: tuple[int, ...] = ()
    language: str = ""  # where the document itself states it
    metadata: Mapping[str, Any] = field(default_factory=dict)
    row: int = 0

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Parsed":
        """The value of which `values` are the fields, as JSON has them."""
        headings = tuple(Heading(**heading) for heading in values["headings"])
        return Parsed(**{**values, "headings": headings, "page_starts": tuple(values["page_starts"])})


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a source. `url` opens it; `name` is its path relative to the source's folder."""

    url: str
    name: str

    def content(self) -> bytes:
        """All bytes, unpacked. Raises UnreadableError for a file that cannot be read, is too large, or has none."""
        filesystem, path = file_system(self.url)
        faults: tuple[type[BaseException], ...] = (*file_faults(filesystem), EOFError, zlib.error, ValueError)
        try:
            with open_unpacked(filesystem, path) as stream:
                data: bytes = stream.read(LARGEST_FILE + 1)
        except faults as error:
            raise UnreadableError("unreadable", f"cannot be read ({error})") from error
        if not data:
            raise UnreadableError("empty", "a file of no bytes")
        if len(data) > LARGEST_FILE:
            raise UnreadableError("too_large", f"one document of more than {LARGEST_FILE >> 20} MiB; split the file")
        return data


Reader = Callable[[SourceFile, Documents], Iterator[Parsed | UnreadableError]]


@dataclass(frozen=True, slots=True)
class DocumentFormat:
    """How the files of one format are read. `about` says in a few words what the format is."""

    name: str
    read: Reader
    about: str
    suffixes: tuple[str, ...]  # in small letters, without that of a compression
    apart: bool = False  # a file is read by a process of its own: a damaged one may end it, or take minutes
