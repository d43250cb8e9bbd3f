"""HTML: the text as Markdown by html-to-markdown, without menus, forms, side columns, footers and what is hidden.

Headings are Markdown's; links and emphasis are their words alone. `<title>` is the title. `<html lang>` is not trusted:
many pages have that of the template they were made from.
"""

import re
from collections.abc import Iterator

from infra.errors import UnreadableError
from infra.recipe import Documents
from tasks.documents.document import DocumentFormat, Parsed, SourceFile
from tasks.documents.encodings import decoded
from tasks.documents.extra import load_library
from tasks.documents.formats.markdown import markdown_headings, title_of, without_front_matter

_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]+)""", re.IGNORECASE)
_HEAD_BYTES = 4096
_LEFT_OUT = ["nav", "footer", "aside", "[role=navigation]", "[role=contentinfo]", "[aria-hidden=true]"]
_WORDS_ALONE = ["a", "b", "strong", "i", "em", "u", "mark", "small"]  # tags whose words stay


def read_html(file: SourceFile, settings: Documents) -> Iterator[Parsed]:
    """The whole file as one document."""
    data = file.content()
    stated = _CHARSET.search(data[:_HEAD_BYTES])
    html = decoded(data, stated.group(1).decode("ascii") if stated else "")
    text, title = _markdown(html)
    headings = markdown_headings(text)
    yield Parsed(text, title or title_of(headings), headings)


def _markdown(html: str) -> tuple[str, str]:
    """(Markdown, title) of a page. Raises UnreadableError for one that the library does not read."""
    library = load_library("html_to_markdown", "reading HTML")
    options = library.ConversionOptions(
        autolinks=False,
        skip_images=True,
        strip_tags=_WORDS_ALONE,
        exclude_selectors=_LEFT_OUT,
        preprocessing=library.PreprocessingOptions(preset="aggressive"),
    )
    try:
        result = library.convert(html, options)
    except (ValueError, RuntimeError, library.ConversionError) as error:
        raise UnreadableError("unreadable", f"not HTML that can be read ({error})") from error
    title = result.metadata.document.title if result.metadata else None
    return without_front_matter(result.content), title or ""


FORMAT = DocumentFormat(
    "html", read_html, "web pages, without menus and footers", (".html", ".htm", ".xhtml"), apart=True
)
