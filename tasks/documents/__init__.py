"""Documents: a stand-in that reads text files, until documents are read by their formats."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.recipe import Documents
from tasks.records.example import Drop


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """A document of a source. Offsets count characters of `text`."""

    document_id: str
    title: str
    text: str
    language: str
    page_starts: tuple[int, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_documents(settings: Documents) -> Iterator[SourceDocument | Drop]:
    """The documents of a source, in the order of their names."""
    root = Path(settings.source)
    for path in sorted(root.rglob("*.txt")):
        text = path.read_text(encoding="utf-8")
        document_id = hashlib.sha256(text.encode()).hexdigest()
        if len(text) < settings.min_characters:
            yield Drop(document_id[:16], "read", "too_short", path.name)
            continue
        han = sum("\u4e00" <= character <= "\u9fff" for character in text)
        yield SourceDocument(document_id, path.stem, text, "zh" if 3 * han >= len(text) else "en")
