"""PDF by PDFium: pages with their offsets, headings from the outline, paragraphs put together again (pdf_lines.py).

A PDF without text, as a scan, is an empty document: recognise its text first. Without an outline it has no headings.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from infra.errors import UnreadableError
from infra.recipe import Documents
from tasks.documents.document import DocumentFormat, Heading, Parsed, SourceFile
from tasks.documents.extra import load_library
from tasks.documents.pdf_lines import page_texts

_PAGE_BREAK = "\n\n"
_SPACES = re.compile(r"\s+")
_PASSWORD = "password"  # noqa: S105
_NO_TITLES = re.compile(r"^(?:untitled|microsoft word\b.*|.*\.(?:docx?|pdf|tex|indd|qxd|rtf))$", re.IGNORECASE)


def read_pdf(file: SourceFile, settings: Documents) -> Iterator[Parsed]:
    """The whole file as one document."""
    data = file.content()
    pdfium = load_library("pypdfium2", "reading PDF")
    try:
        document = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        if _PASSWORD in str(error).lower():
            raise UnreadableError("encrypted", "needs a password; save it without one") from error
        raise UnreadableError("unreadable", f"not a whole PDF ({error})") from error
    try:
        pages = page_texts([_page_text(document, number) for number in range(len(document))])
        starts = []
        length = 0
        for page in pages:
            starts.append(length)
            length += len(page) + len(_PAGE_BREAK)
        title = _SPACES.sub(" ", document.get_metadata_value("Title")).strip()
        headings = _headings(document, pages, starts)
    except pdfium.PdfiumError as error:
        raise UnreadableError("unreadable", f"not a whole PDF ({error})") from error
    finally:
        document.close()
    text = _PAGE_BREAK.join(pages)
    if not text.strip():
        raise UnreadableError("empty", f"{len(pages)} pages, none with text: are they pictures? Recognise it first")
    title = "" if _NO_TITLES.match(title) else title
    yield Parsed(text, title, headings, tuple(starts), metadata={"pages": len(pages)})


def _page_text(document: Any, number: int) -> str:
    page = document[number]
    try:
        content = page.get_textpage()
        try:
            text: str = content.get_text_range()
            return text
        finally:
            content.close()
    finally:
        page.close()


def _headings(document: Any, pages: Sequence[str], starts: Sequence[int]) -> tuple[Heading, ...]:
    """The outline's entries whose titles stand at the start of a line of their page."""
    headings: dict[int, Heading] = {}
    page, place = 0, 0  # where the last one was: the outline goes through the text
    for entry in document.get_toc():
        destination = entry.get_dest()
        number = destination.get_index() if destination else None
        words = _SPACES.sub(" ", entry.get_title() or "").strip()
        if number is None or not 0 <= number < len(pages) or not words:
            continue
        if number != page:
            page, place = number, 0
        pattern = re.compile(r"(?m)^[\d.§\s]*" + r"\s*".join(map(re.escape, words.split(" "))), re.IGNORECASE)
        match = pattern.search(pages[page], place)
        if match:
            start = starts[page] + match.start()
            headings.setdefault(start, Heading(start, entry.level + 1, words))
            place = match.end()
    return tuple(headings[start] for start in sorted(headings))


FORMAT = DocumentFormat("pdf", read_pdf, "PDF with text, with its pages and its outline", (".pdf",), apart=True)
