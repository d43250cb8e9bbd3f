"""What is read from a folder: documents in the order of their names, everything else a counted drop."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from infra.canonical import text_id
from infra.errors import InputError
from infra.recipe import Documents
from tasks.documents import SourceDocument, read_documents
from tasks.records.example import Drop

ENGLISH = "The council of Harlow met on Monday and agreed to mend the old bridge before winter. " * 4
CHINESE = "市议会于星期一开会，同意在冬天之前修好旧桥。" * 20


def read(source: Path | str, **settings: object) -> tuple[list[SourceDocument], list[Drop]]:
    documents: list[SourceDocument] = []
    drops: list[Drop] = []
    for outcome in read_documents(Documents.model_validate({"source": str(source), **settings})):
        if isinstance(outcome, Drop):
            drops.append(outcome)
        else:
            documents.append(outcome)
    return documents, drops


def test_documents_come_by_name_with_headings_and_language(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text(CHINESE)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.md").write_text(f"# The bridge\n\n{ENGLISH}\n\n## Cost\n\nMuch.\n\n```\n# no heading\n```\n")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "c.txt").write_text(ENGLISH)
    documents, drops = read(tmp_path)
    assert [(document.source, document.language, document.title) for document in documents] == [
        ("a/one.md", "en", "The bridge"),
        ("b.txt", "zh", "b"),
    ]
    bridge = documents[0]
    assert bridge.document_id == text_id(bridge.text)
    assert [(heading.level, heading.title) for heading in bridge.headings] == [(1, "The bridge"), (2, "Cost")]
    assert bridge.text[bridge.headings[1].start :].startswith("## Cost")
    assert [heading.title for heading in bridge.headings_at(bridge.text.index("Much"))] == ["The bridge", "Cost"]
    assert drops == []


def test_rows_are_documents_and_bad_ones_are_drops(tmp_path: Path) -> None:
    rows = [
        {"text": ENGLISH, "title": "Bridge", "year": 1901},
        {"body": ENGLISH},
        {"text": ENGLISH},
        {"text": "  "},
    ]
    packed = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    (tmp_path / "rows.jsonl.gz").write_bytes(packed)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    documents, drops = read(tmp_path)
    assert [(document.source, document.title) for document in documents] == [("rows.jsonl.gz#1", "Bridge")]
    assert json.loads(documents[0].metadata) == {"year": 1901}
    assert {drop.example_id: drop.reason for drop in drops} == {
        "picture.png": "format",
        "rows.jsonl.gz#3": "duplicate",
        "rows.jsonl.gz#4": "empty",
        "rows.jsonl.gz": "no_text_column",
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_encodings_give_the_same_text(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes(CHINESE.encode(encoding))
    documents, _ = read(tmp_path)
    assert [document.text for document in documents] == [CHINESE]


def test_unreadable_files_never_stop_the_run(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "b.txt").write_bytes(b"")
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(ENGLISH.encode())[:-20])
    (tmp_path / "d.txt").write_text("short")
    (tmp_path / "e.txt").write_text(ENGLISH)
    documents, drops = read(tmp_path)
    assert [document.source for document in documents] == ["e.txt"]
    assert Counter(drop.reason for drop in drops) == Counter(["binary", "empty", "unreadable", "too_short"])


def test_a_source_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        read(tmp_path / "nothing")


def test_a_pattern_and_a_limit(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.md"):
        (tmp_path / name).write_text(f"{name}: {ENGLISH}")
    documents, _ = read(tmp_path / "*.txt", limit=1)
    assert [document.source for document in documents] == ["a.txt"]


@pytest.mark.medium
def test_names_with_signs_of_urls_and_patterns_are_read(tmp_path: Path) -> None:
    names = ["a#1.txt", "b c.txt", "d%20.txt", "e?.txt", "f[1].txt", "g*.md", "书.txt"]
    for number, name in enumerate(names):
        (tmp_path / name).write_text(f"Number {number}. {ENGLISH}")
    (tmp_path / "k#2.html").write_text(f"<p>Number ten. {ENGLISH}</p>")
    documents, drops = read(tmp_path, near_duplicates=None)
    assert drops == []
    assert [document.source for document in documents] == sorted([*names, "k#2.html"])
