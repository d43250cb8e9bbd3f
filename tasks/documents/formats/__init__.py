"""The formats of documents, one file for each."""

from functools import cache

from infra.plugins import find_plugins
from infra.store.sources import unpacked_name
from tasks.documents.document import DocumentFormat


@cache
def document_formats() -> dict[str, DocumentFormat]:
    """All formats by name: every file of this folder that holds a FORMAT."""
    return find_plugins(__name__, "FORMAT")


def format_of(path: str) -> DocumentFormat | None:
    """The format of a file, by the end of its name; None where no format has it."""
    name = unpacked_name(path)
    for form in document_formats().values():
        if name.endswith(form.suffixes):
            return form
    return None
