"""Word's .docx: mammoth makes HTML of it, html-to-markdown makes Markdown of that: headings, lists and tables stay.

Left out: pages, which Word alone can tell, pictures, and changes that were not accepted.
"""

import io
import zipfile
from collections.abc import Iterator

from infra.errors import UnreadableError
from infra.recipe import Documents
from tasks.documents.document import LARGEST_FILE, DocumentFormat, Parsed, SourceFile
from tasks.documents.extra import load_library
from tasks.documents.formats.html import html_to_text
from tasks.documents.formats.markdown import markdown_headings, title_of

_OLE = b"\xd0\xcf\x11\xe0"  # how an encrypted .docx begins, and an old .doc


def read_docx(file: SourceFile, settings: Documents) -> Iterator[Parsed]:
    """The whole file as one document."""
    data = file.content()
    if data.startswith(_OLE):
        raise UnreadableError("encrypted", "encrypted, or an old .doc; save it as .docx without a password")
    mammoth = load_library("mammoth", "reading .docx")
    try:
        _refuse_large(data)
        pictures = mammoth.images.img_element(lambda image: {"src": ""})
        html = mammoth.convert_to_html(io.BytesIO(data), convert_image=pictures).value
    except UnreadableError:
        raise
    except Exception as error:  # a damaged file makes mammoth raise whatever its XML led to
        raise UnreadableError("unreadable", f"not a whole .docx ({type(error).__name__}: {error})") from error
    text, _, _ = html_to_text(html, web_page=False)
    headings = markdown_headings(text)
    yield Parsed(text, title_of(headings), headings)


def _refuse_large(data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > LARGEST_FILE:
        raise UnreadableError("too_large", f"unpacks to more than {LARGEST_FILE >> 20} MiB; split the file")


FORMAT = DocumentFormat("docx", read_docx, "Word documents, with headings, lists and tables", (".docx",), apart=True)
