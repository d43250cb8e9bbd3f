"""Rows of Parquet, one document each."""

from collections.abc import Iterator

from infra.errors import UnreadableError
from infra.recipe import Documents
from tasks.documents.document import DocumentFormat, Parsed, SourceFile
from tasks.documents.row_documents import file_rows


def read_parquet(file: SourceFile, settings: Documents) -> Iterator[Parsed | UnreadableError]:
    """A document for each row."""
    return file_rows(file, settings)


FORMAT = DocumentFormat("parquet", read_parquet, "rows of Parquet, with a text column", (".parquet",))
