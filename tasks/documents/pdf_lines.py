"""The lines of PDF pages as paragraphs: a PDF has lines, and says nothing of paragraphs.

A line goes on in the next one where it is about as long as the page's lines are and does not end a sentence. Words that
were divided at the end of a line are put together. Lines that stand at the top or bottom of most pages, as page
numbers and running titles, are left out.
"""

import re
from collections import Counter
from collections.abc import Sequence

_ENDS = ".!?:;。！？：；…\"'”’」』)）"
_HYPHENS = ("\x02", "\ufffe", "\u00ad")  # how PDFium writes a hyphen that divides a word
_DIGITS = re.compile(r"\d+|\b[ivxlc]+\b")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ufffe\uffff\u00ad]")
_CJK = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_ITEM = re.compile(r"[•◦▪‣·–—-]\s|\(?\d{1,3}[.)]\s|[（(][一二三四五六七八九十\d]+[)）]")
_FULL = 0.75  # of the length of the page's long lines: from there on a line was broken, and did not end
_EDGE_LINES = 2  # at the top and the bottom of a page, that may repeat
_FEWEST_PAGES = 4
_MOST_PAGES = 0.6  # share of the pages on which a line repeats that is no part of the text


def page_texts(pages: Sequence[str]) -> list[str]:
    """The text of every page in paragraphs, as PDFium gave it in lines."""
    lines_of_pages = [_lines(page) for page in pages]
    running = _running_lines(lines_of_pages)
    texts = []
    for lines in lines_of_pages:
        texts.append(_paragraphs(_without(lines, running)))
    return texts


def _lines(page: str) -> list[str]:
    lines = []
    for line in _SURROGATE.sub("\ufffd", page).replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        lines.append(line.strip(" \t\f"))
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _edges(lines: Sequence[str]) -> list[int]:
    """The places of the first and the last lines."""
    places = [place for place, line in enumerate(lines) if line]
    return sorted({*places[:_EDGE_LINES], *places[-_EDGE_LINES:]})


def _running_lines(pages: Sequence[Sequence[str]]) -> set[str]:
    """Lines, numbers aside, that stand at the edges of most pages."""
    if len(pages) < _FEWEST_PAGES:
        return set()
    counts: Counter[str] = Counter()
    for lines in pages:
        counts.update({_shape(lines[place]) for place in _edges(lines)})
    return {shape for shape, count in counts.items() if count >= _MOST_PAGES * len(pages)}


def _shape(line: str) -> str:
    return _DIGITS.sub("0", line.lower())


def _without(lines: Sequence[str], running: set[str]) -> list[str]:
    left_out = {place for place in _edges(lines) if _shape(lines[place]) in running}
    return [line for place, line in enumerate(lines) if place not in left_out]


def _paragraphs(lines: Sequence[str]) -> str:
    widths = sorted(map(_width, lines))
    full = _FULL * widths[int(0.9 * (len(widths) - 1))] if widths else 0
    parts: list[str] = []
    goes_on = False
    for place, line in enumerate(lines):
        divided = line.endswith(_HYPHENS)
        text = _CONTROL.sub("", line)
        if goes_on and text and not _ITEM.match(text):
            parts.append(text if _joins(parts[-1], text, lines[place - 1]) else f" {text}")
        elif text:
            parts.append(f"\n{text}" if parts else text)
        goes_on = bool(text) and (divided or (_width(line) >= full and not line.endswith(tuple(_ENDS))))
        goes_on = goes_on or (bool(text) and _width(line) >= full and _next_is_small(lines, place))
    return "".join(parts)


def _next_is_small(lines: Sequence[str], place: int) -> bool:
    """Whether the next line goes on in the middle of a sentence."""
    return place + 1 < len(lines) and lines[place + 1][:1].islower()


def _joins(before: str, text: str, line: str) -> bool:
    """Whether two lines meet without a space: a divided word, or a text without spaces."""
    return line.endswith(_HYPHENS) or bool(_CJK.match(before[-1:]) and _CJK.match(text[0]))


def _width(line: str) -> int:
    """Columns of a line; Chinese characters take two."""
    return len(line) + len(_CJK.findall(line))
