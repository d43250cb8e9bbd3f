"""Documents that are rows of a table: the text column, a title, a language, and the other short fields as metadata.

A row without text that has chat messages is a history (histories.py).
"""

from collections.abc import Iterator
from typing import Any

from infra.errors import InputError, UnreadableError
from infra.recipe import Documents
from tasks.documents.document import Parsed, SourceFile
from tasks.documents.histories import history_content, history_sessions
from tasks.questions.question import SourceRow
from tasks.questions.rows import read_rows

_LONGEST_METADATA = 1_000  # characters of one field


def file_rows(file: SourceFile, settings: Documents) -> Iterator[Parsed | UnreadableError]:
    """What the rows of a file hold. A fault of the file comes last."""
    broken: list[InputError] = []  # rows that were left out since the last one that was read
    try:
        for row in read_rows(file.url, skip=broken.append):
            while broken:
                yield UnreadableError("unreadable", str(broken.pop(0)))
            yield row_document(row, settings)
    except InputError as error:
        broken.append(error)
    for fault in broken:
        yield UnreadableError("unreadable", str(fault))


def row_document(row: SourceRow, settings: Documents) -> Parsed | UnreadableError:
    """What one row holds, or why it cannot be used."""
    text = row.values.get(settings.text_column)
    sessions = history_sessions(row) if not isinstance(text, str) else None
    if sessions == []:
        return UnreadableError("empty", f"row {row.number}: no message of it says anything")
    if sessions:
        content, name, parts = history_content(row, sessions)
        return Parsed(content, name, language=str(row.values.get("language") or ""), metadata=parts, row=row.number)
    if not isinstance(text, str):
        problem = f"no text in the field {settings.text_column!r}"
        names = ", ".join(sorted(map(str, row.values))[:12])
        return UnreadableError("no_text_column", f"row {row.number}: {problem}; it has {names}: documents.text_column")
    title, language = row.values.get(settings.title_column), row.values.get("language")
    metadata: dict[str, Any] = {}
    for name, value in row.values.items():
        used = name in (settings.text_column, settings.title_column, "language")
        if not used and isinstance(value, (str, int, float)) and len(str(value)) <= _LONGEST_METADATA:
            metadata[name] = value
    return Parsed(
        text,
        title if isinstance(title, str) else "",
        language=language if isinstance(language, str) else "",
        metadata=metadata,
        row=row.number,
    )
