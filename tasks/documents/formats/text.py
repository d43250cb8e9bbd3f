"""Plain text: UTF-8, UTF-16 or GB 18030."""

from collections.abc import Iterator

from infra.recipe import Documents
from tasks.documents.document import DocumentFormat, Parsed, SourceFile
from tasks.documents.encodings import decoded


def read_text(file: SourceFile, settings: Documents) -> Iterator[Parsed]:
    """The whole file as one document."""
    yield Parsed(decoded(file.content()))


FORMAT = DocumentFormat("text", read_text, "plain text in UTF-8, UTF-16 or GB 18030", (".txt", ".text"))
