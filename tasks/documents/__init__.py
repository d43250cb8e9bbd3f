"""Documents: read from files of many formats, checked, every one that cannot be used a counted drop.

Files come in the order of their names, hidden ones left out, and documents in the order of their files: the same source
gives the same documents in any run. Ids are hashes of the text. A drop's stage is "document", its `example_id` the
document's source; reasons: unreadable, encrypted, encoding, binary, too_large, format, no_text_column, empty,
invalid_text, too_short, too_long, language, duplicate, near_duplicate. Only a source that is not there at all stops
with an error.
"""

import contextlib
import os
from collections.abc import Iterator

from infra.canonical import text_id
from infra.errors import UnreadableError
from infra.recipe import Documents
from infra.running import progress
from tasks.documents.document import DocumentFormat, Heading, Parsed, SourceDocument, SourceFile
from tasks.documents.duplicates import Duplicates
from tasks.documents.formats import document_formats, format_of
from tasks.documents.languages import detect_language
from tasks.documents.reading import read_sources
from tasks.questions.question import json_object
from tasks.records.example import Drop

__all__ = [
    "DocumentFormat",
    "Heading",
    "Parsed",
    "SourceDocument",
    "SourceFile",
    "document_formats",
    "format_of",
    "read_documents",
]

STAGE = "document"


def read_documents(settings: Documents, processes: int | None = None) -> Iterator[SourceDocument | Drop]:
    """A SourceDocument or Drop for every document of a source, in its order, until `settings.limit` are used.

    `processes` parse beside this one, where the formats take long; default: one for each core. Raises InputError when
    the source is not there or cannot be reached, PrerequisiteError when a library for it is missing.
    """
    used = 0
    with (
        contextlib.closing(Duplicates(settings.near_duplicates)) as duplicates,
        contextlib.closing(read_sources(settings, processes or len(os.sched_getaffinity(0)))) as parts,
    ):
        for source, parsed in parts:
            progress.advance("documents")
            outcome = parsed if isinstance(parsed, UnreadableError) else _checked(source, parsed, settings, duplicates)
            if isinstance(outcome, UnreadableError):
                yield Drop(_writable(source), STAGE, outcome.reason, _writable(str(outcome)))
                continue
            yield outcome
            used += 1
            if used == settings.limit:
                return


def _checked(
    source: str, parsed: Parsed, settings: Documents, duplicates: Duplicates
) -> SourceDocument | UnreadableError:
    """The document, or why it is not used."""
    text = parsed.text
    characters = len(text.strip())
    if not characters:
        return UnreadableError("empty", "holds no text")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return UnreadableError("invalid_text", "holds a lone surrogate, which cannot be written as UTF-8")
    if characters < settings.min_characters:
        return UnreadableError("too_short", f"{characters} characters; documents.min_characters")
    if settings.max_characters is not None and characters > settings.max_characters:
        return UnreadableError("too_long", f"{characters} characters; documents.max_characters")
    language = detect_language(text, parsed.language)
    if language not in settings.languages:
        return UnreadableError("language", f"{language!r} is not among documents.languages")
    document_id = text_id(text)
    earlier = duplicates.earlier(document_id, _writable(source), text)
    if earlier is not None:
        first, likeness = earlier
        if likeness is None:
            return UnreadableError("duplicate", f"the same text as {first}")
        return UnreadableError("near_duplicate", f"{likeness:.0%} like {first}; documents.near_duplicates")
    return SourceDocument(
        document_id,
        " ".join(_writable(parsed.title).split()) or source.rpartition("/")[2].partition(".")[0],
        text,
        parsed.headings,
        parsed.page_starts,
        language,
        _writable(source),
        _writable(json_object(parsed.metadata)),
    )


def _writable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
