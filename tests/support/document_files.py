"""Real files of the formats that documents have, made by libraries that write them."""

import io
from collections.abc import Sequence
from pathlib import Path

CHINESE_FONT = "STSong-Light"  # one that PDF readers have; it is not written into the file

Section = tuple[str, Sequence[str]]  # a heading, and paragraphs


def write_pdf(
    path: Path, sections: Sequence[Section], *, title: str = "", font: str = "Times-Roman", footer: str = ""
) -> None:
    """A PDF with an outline; each section begins a page. `footer` stands on every page, with the page's number."""
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont
    from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate

    wrap = None
    if font == CHINESE_FONT:
        pdfmetrics.registerFont(UnicodeCIDFont(font))
        wrap = "CJK"
    body = ParagraphStyle("body", fontName=font, fontSize=10, leading=13, spaceAfter=6, wordWrap=wrap)
    heading = ParagraphStyle("heading", fontName=font, fontSize=16, leading=24, wordWrap=wrap)

    class Template(SimpleDocTemplate):
        def afterFlowable(self, flowable: object) -> None:
            if isinstance(flowable, Paragraph) and flowable.style is heading:
                name = flowable.getPlainText()
                self.canv.bookmarkPage(name)
                self.canv.addOutlineEntry(name, name, 0)

    def draw_footer(canvas: object, template: object) -> None:
        if footer:
            canvas.setFont(font, 8)  # type: ignore[attr-defined]
            canvas.drawString(80, 30, f"{footer} {canvas.getPageNumber()}")  # type: ignore[attr-defined]

    flow: list[object] = []
    for name, paragraphs in sections:
        flow += [PageBreak()] if flow else []
        flow.append(Paragraph(name, heading))
        flow += [Paragraph(paragraph, body) for paragraph in paragraphs]
    Template(str(path), title=title, invariant=1).build(flow, onFirstPage=draw_footer, onLaterPages=draw_footer)


def write_encrypted_pdf(path: Path) -> None:
    """A PDF that needs a password."""
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(path), encrypt="secret")
    canvas.drawString(80, 700, "Nobody reads this.")
    canvas.save()


def write_blank_pdf(path: Path) -> None:
    """A PDF with a drawing and no text, as a scan is."""
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(path))
    canvas.rect(80, 600, 200, 100)
    canvas.save()


def write_docx(path: Path, sections: Sequence[Section], table: Sequence[Sequence[str]] = ()) -> None:
    """A .docx with headings of level 1, and a table at its end."""
    import docx

    document = docx.Document()
    for name, paragraphs in sections:
        document.add_heading(name, 1)
        for paragraph in paragraphs:
            first, _, rest = paragraph.partition(" ")
            written = document.add_paragraph()
            written.add_run(f"{first} ").bold = True
            written.add_run(rest)
    if table:
        cells = document.add_table(len(table), len(table[0]))
        for row, values in enumerate(table):
            for column, value in enumerate(values):
                cells.cell(row, column).text = value
    data = io.BytesIO()
    document.save(data)
    path.write_bytes(data.getvalue())


def web_page(sections: Sequence[Section], *, title: str, language: str = "en") -> str:
    """A page of HTML with a menu, a script, a side column and a footer around the text."""
    body = ""
    for name, paragraphs in sections:
        body += f"<h2>{name}</h2>" + "".join(f'<p>{paragraph} <a href="/x">More.</a></p>' for paragraph in paragraphs)
    return (
        f'<!DOCTYPE html><html lang="{language}"><head><title>{title}</title><style>p {{color: red}}</style></head>'
        "<body><header><nav><ul><li><a href='/'>Home page</a></li></ul></nav></header>"
        "<script>var text = '<p>not this</p>';</script>"
        f"<main><article><h1>{title}</h1>{body}</article></main>"
        "<aside>Related stories</aside><footer>All rights reserved</footer></body></html>"
    )
