"""Each format: its text, headings and pages; files that are damaged are drops."""

import json
import os
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import PrerequisiteError
from infra.recipe import Documents
from tasks.documents import SourceDocument, document_formats, extra, read_documents
from tasks.records.example import Drop
from tests.support.document_files import (
    CHINESE_FONT,
    Section,
    web_page,
    write_blank_pdf,
    write_docx,
    write_encrypted_pdf,
    write_pdf,
)

pytestmark = pytest.mark.medium

COUNCIL = "says that the council of Harlow met and agreed to mend the old bridge"
ENGLISH: list[Section] = [
    ("The bridge", [f"Sentence {n} {COUNCIL}." for n in range(9)]),
    ("The cost", [" ".join(f"Line {n} of the bill names {n * 7} crowns for stone and timber." for n in range(12))]),
    ("The date", ["It opened on 3 May 1901. A band played."]),
    ("The end", ["Nothing more is written of it in the books of the town, which were burnt in the war."]),
]
MEETING = "市议会于星期一开会，同意在冬天之前修好旧桥，并且请了三位工匠来估算石料和木料的价钱，最后商定由镇上出钱。"
CHINESE: list[Section] = [
    ("旧桥", [MEETING * 3]),
    ("费用", ["石料一共花了七十元，木料花了三十元。"]),
]


def read(folder: Path, **settings: object) -> tuple[list[SourceDocument], dict[str, str]]:
    documents: list[SourceDocument] = []
    drops: dict[str, str] = {}
    for outcome in read_documents(
        Documents.model_validate({"source": str(folder), "min_characters": 20, **settings}), 1
    ):
        if isinstance(outcome, Drop):
            drops[outcome.example_id] = outcome.reason
        else:
            documents.append(outcome)
    return documents, drops


def test_a_pdf_has_paragraphs_pages_and_the_headings_of_its_outline(tmp_path: Path) -> None:
    write_pdf(tmp_path / "a.pdf", ENGLISH, title="Books of Harlow", footer="Town library, page")
    [document], drops = read(tmp_path)
    assert drops == {}
    assert (document.title, document.language, len(document.page_starts)) == ("Books of Harlow", "en", 4)
    assert [heading.title for heading in document.headings] == ["The bridge", "The cost", "The date", "The end"]
    for heading, (_, paragraphs) in zip(document.headings, ENGLISH, strict=True):
        assert document.text[heading.start :].startswith(heading.title)
        for paragraph in paragraphs:
            assert paragraph in document.text  # whole, where the PDF has it in lines
    assert document.page_at(document.text.index("It opened on")) == 3
    assert "Town library" not in document.text


def test_a_chinese_pdf_has_no_spaces_where_lines_were_broken(tmp_path: Path) -> None:
    write_pdf(tmp_path / "a.pdf", CHINESE, font=CHINESE_FONT)
    [document], _ = read(tmp_path)
    assert document.language == "zh"
    assert CHINESE[0][1][0] in document.text
    assert [heading.title for heading in document.headings] == ["旧桥", "费用"]


def test_a_web_page_is_its_text_alone(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(web_page(ENGLISH, title="Books of Harlow"))
    [document], _ = read(tmp_path)
    assert document.title == "Books of Harlow"
    assert [heading.title for heading in document.headings] == ["Books of Harlow", *(name for name, _ in ENGLISH)]
    assert f"{ENGLISH[2][1][0]} More." in document.text
    for noise in ("Home page", "not this", "color", "Related", "rights", "<", "/x"):
        assert noise not in document.text


def test_a_web_page_in_an_old_encoding_is_read_as_it_states(tmp_path: Path) -> None:
    page = web_page(CHINESE, title="旧桥", language="en").replace("<head>", '<head><meta charset="big5">')
    page = "".join(character for character in page if character.encode("big5", "ignore"))
    (tmp_path / "a.html").write_bytes(page.encode("big5"))
    [document], _ = read(tmp_path)
    assert document.language == "zh"
    assert "石料一共花了七十元" in document.text.replace("\n", "")


def test_a_word_document_keeps_headings_and_tables(tmp_path: Path) -> None:
    write_docx(tmp_path / "a.docx", ENGLISH, table=[["Part", "Crowns"], ["stone", "70"]])
    [document], _ = read(tmp_path)
    assert [heading.title for heading in document.headings] == [name for name, _ in ENGLISH]
    assert ENGLISH[1][1][0] in document.text
    assert "stone" in document.text.rpartition("Crowns")[2]


def test_parquet_rows_are_documents(tmp_path: Path) -> None:
    rows = {"body": [f"{name}. {' '.join(texts)}" for name, texts in ENGLISH], "title": [name for name, _ in ENGLISH]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    documents, _ = read(tmp_path, text_column="body")
    assert [(document.source, document.title) for document in documents][:2] == [
        ("a.parquet#1", "The bridge"),
        ("a.parquet#2", "The cost"),
    ]


def test_damaged_files_are_drops_with_their_reasons(tmp_path: Path) -> None:
    write_pdf(tmp_path / "whole.pdf", ENGLISH)
    whole = (tmp_path / "whole.pdf").read_bytes()
    (tmp_path / "cut.pdf").write_bytes(whole[:300])
    (tmp_path / "noise.pdf").write_bytes(os.urandom(2000))
    (tmp_path / "nothing.pdf").write_bytes(b"")
    write_encrypted_pdf(tmp_path / "locked.pdf")
    write_blank_pdf(tmp_path / "scan.pdf")
    (tmp_path / "zip.docx").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "old.docx").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(100))
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 no table")
    (tmp_path / "rows.jsonl").write_text(
        json.dumps({"text": "Row one is long enough to be used."})
        + '\n{"text": \n'
        + json.dumps({"text": "x" * 3})
        + "\n"
    )
    documents, drops = read(tmp_path)
    assert [document.source for document in documents] == ["rows.jsonl#1", "whole.pdf"]
    assert drops == {
        "cut.pdf": "unreadable",
        "locked.pdf": "encrypted",
        "noise.pdf": "unreadable",
        "nothing.pdf": "empty",
        "old.docx": "encrypted",
        "rows.jsonl": "unreadable",
        "rows.jsonl#3": "too_short",
        "rows.parquet": "unreadable",
        "scan.pdf": "empty",
        "zip.docx": "unreadable",
    }


def test_a_process_that_ends_costs_one_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from infra.running import line_processes

    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.html").write_text(
            web_page([(name, [f"The page {name} holds this one sentence."])], title=name)
        )
    asked = line_processes._reply

    def killed_at_b(process: object, line: bytes, timeout_s: float | None) -> tuple[bytes, bool]:
        if b"b.html" in line:
            os.kill(process.pid, signal.SIGKILL)  # type: ignore[attr-defined]
        return asked(process, line, timeout_s)  # type: ignore[arg-type]

    monkeypatch.setattr(line_processes, "_reply", killed_at_b)
    documents, drops = read(tmp_path)
    assert [document.source for document in documents] == ["a.html", "c.html"]
    assert drops == {"b.html": "unreadable"}


def test_a_missing_library_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(extra.importlib, "import_module", missing)
    (tmp_path / "a.txt").write_text("A text that is long enough to be a document.")
    with pytest.raises(PrerequisiteError, match=r"datasketch.*pip install \"longmill\[documents\]\""):
        read(tmp_path)


def test_every_suffix_has_one_format() -> None:
    suffixes = [suffix for form in document_formats().values() for suffix in form.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert set(document_formats()) == {"docx", "html", "json", "markdown", "parquet", "pdf", "text"}
