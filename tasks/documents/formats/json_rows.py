"""Rows of JSON, one document each: JSONL, or a JSON array."""

from collections.abc import Iterator

from infra.errors import UnreadableError
from infra.recipe import Documents
from tasks.documents.document import DocumentFormat, Parsed, SourceFile
from tasks.documents.row_documents import file_rows


def read_json(file: SourceFile, settings: Documents) -> Iterator[Parsed | UnreadableError]:
    """A document for each row."""
    return file_rows(file, settings)


FORMAT = DocumentFormat(
    "json", read_json, "JSONL or a JSON array; rows with a text column", (".jsonl", ".ndjson", ".json")
)
