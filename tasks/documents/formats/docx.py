"""Word's .docx by python-docx: paragraphs and tables in their order, headings and lists as Markdown has them.

Left out: pages, which Word alone can tell, pictures, footnotes, headers and footers, deleted text of tracked changes.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from infra.errors import UnreadableError
from infra.recipe import Documents
from tasks.documents.document import LARGEST_FILE, DocumentFormat, Heading, Parsed, SourceFile
from tasks.documents.extra import load_library
from tasks.documents.formats.markdown import title_of

_OLE = b"\xd0\xcf\x11\xe0"  # how an encrypted .docx begins, and an old .doc
_HEADING = re.compile(r"heading (\d)", re.IGNORECASE)
_TITLE = "Title"
_LIST = "List"  # how the names of Word's styles of lists begin


def read_docx(file: SourceFile, settings: Documents) -> Iterator[Parsed]:
    """The whole file as one document."""
    data = file.content()
    if data.startswith(_OLE):
        raise UnreadableError("encrypted", "encrypted, or an old .doc; save it as .docx without a password")
    library = load_library("docx", "reading .docx")
    try:
        _refuse_large(data)
        document = library.Document(io.BytesIO(data))
        text, headings = _markdown(document, library)
        title = document.core_properties.title or title_of(headings)
    except UnreadableError:
        raise
    except Exception as error:  # a damaged file makes the library raise whatever its XML led to
        raise UnreadableError("unreadable", f"not a whole .docx ({type(error).__name__}: {error})") from error
    yield Parsed(text, title, headings)


def _markdown(document: Any, library: Any) -> tuple[str, tuple[Heading, ...]]:
    """The body as Markdown, and its headings."""
    parts: list[str] = []
    headings: list[Heading] = []
    styles: dict[str | None, tuple[int, bool]] = {}  # by id: level of a heading or 0, whether it is of a list
    length = 0
    in_list = False
    for block in document.element.body.inner_content_elements:  # the XML itself: a paragraph's style takes long to find
        level, is_item = 0, False
        if isinstance(block, library.oxml.table.CT_Tbl):
            part = _table(library.table.Table(block, document))
        else:
            part = block.text.strip()
            if not part:
                continue
            if block.style not in styles:
                style = document.styles.get_by_id(block.style, library.enum.style.WD_STYLE_TYPE.PARAGRAPH)
                styles[block.style] = (_heading_level(style), (style.name or "").startswith(_LIST))
            level, is_item = styles[block.style]
        gap = "\n" if is_item and in_list else "\n\n"
        in_list = is_item
        if level:
            title = " ".join(part.split())
            part = f"{'#' * level} {title}"
            headings.append(Heading(length + (len(gap) if parts else 0), level, title))
        elif is_item:
            part = f"- {part}"
        parts.append(f"{gap if parts else ''}{part}")
        length += len(parts[-1])
    return "".join(parts), tuple(headings)


def _heading_level(style: Any) -> int:
    """The level of a heading's style, or of the one that it is derived from; 0 where there is none."""
    while style is not None:
        match = _HEADING.fullmatch(style.name or "")
        if match:
            return min(6, int(match.group(1)))
        if style.name == _TITLE:
            return 1
        style = style.base_style
    return 0


def _table(table: Any) -> str:
    """A line for each row; cells that were joined come once."""
    lines = []
    for row in table.rows:
        texts: list[str] = []
        for cell in row.cells:
            text = " ".join(cell.text.split())
            if not texts or text != texts[-1] or not text:
                texts.append(text)
        lines.append(f"| {' | '.join(texts)} |")
    return "\n".join(lines)


def _refuse_large(data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > LARGEST_FILE:
        raise UnreadableError("too_large", f"unpacks to more than {LARGEST_FILE >> 20} MiB; split the file")


FORMAT = DocumentFormat("docx", read_docx, "Word documents, with headings, lists and tables", (".docx",), apart=True)
