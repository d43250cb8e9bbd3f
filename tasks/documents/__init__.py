"""Documents: read from files of many formats, checked, every one that cannot be used a counted drop.

Files come in the order of their names, hidden ones left out, and documents in the order of their files: the same source
gives the same documents in any run. Ids are hashes of the text. A drop's stage is "document", its `example_id` the
document's source; reasons: unreadable, encrypted, encoding, binary, too_large, format, no_text_column, empty,
invalid_text, too_short, too_long, language, duplicate, near_duplicate. Only a source that is not there at all stops
with an error.
"""

import json
from collections.abc import Iterator

from infra.canonical import text_id
from infra.errors import UnreadableError
from infra.recipe import Documents
from tasks.documents.document import DocumentFormat, Heading, Parsed, SourceDocument, SourceFile
from tasks.documents.formats import document_formats, format_of
from tasks.documents.languages import detect_language
from tasks.documents.sources import source_files, source_rows
from tasks.records.example import Drop

__all__ = [
    "DocumentFormat",
    "Heading",
    "Parsed",
    "SourceDocument",
    "SourceFile",
    "document_formats",
    "read_documents",
]

STAGE = "document"


def read_documents(settings: Documents) -> Iterator[SourceDocument | Drop]:
    """A SourceDocument or Drop for every document of a source, in its order, until `settings.limit` are used.

    Raises InputError when the source is not there, or cannot be reached.
    """
    used = 0
    seen: dict[str, str] = {}  # by document id, the source that it came from first
    for source, parsed in _parsed(settings):
        outcome = parsed if isinstance(parsed, UnreadableError) else _checked(source, parsed, settings, seen)
        if isinstance(outcome, UnreadableError):
            yield Drop(_writable(source), STAGE, outcome.reason, _writable(str(outcome)))
            continue
        yield outcome
        used += 1
        if used == settings.limit:
            return


def _parsed(settings: Documents) -> Iterator[tuple[str, Parsed | UnreadableError]]:
    """(source, what was read) for every document of all files."""
    files = source_files(settings)
    if files is None:
        for parsed in source_rows(settings):
            yield f"#{parsed.row}" if isinstance(parsed, Parsed) else settings.source, parsed
        return
    for file in files:
        form = format_of(file.name)
        if form is None:
            yield file.name, UnreadableError("format", "no format has such a name: `longmill documents` lists them")
            continue
        try:
            for parsed in form.read(file, settings):
                row = parsed.row if isinstance(parsed, Parsed) else 0
                yield f"{file.name}#{row}" if row else file.name, parsed
        except UnreadableError as error:
            yield file.name, error


def _checked(
    source: str, parsed: Parsed, settings: Documents, seen: dict[str, str]
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
    if document_id in seen:
        return UnreadableError("duplicate", f"the same text as {seen[document_id]}")
    seen[document_id] = source
    title = " ".join(_writable(parsed.title).split()) or source.rpartition("/")[2].partition(".")[0]
    metadata = json.dumps(dict(parsed.metadata), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return SourceDocument(
        document_id,
        title,
        text,
        parsed.headings,
        parsed.page_starts,
        language,
        _writable(source),
        _writable(metadata),
    )


def _writable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
