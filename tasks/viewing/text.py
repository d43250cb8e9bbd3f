"""Texts of models and documents on a page: never markup, and nothing in them is hidden or turns the line around.

`visible` is the only way in which such a text becomes HTML. Control characters, and those that change the direction
or have no shape, are shown by their code point; without this a text could look like another one.
"""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

ALLOWED_CONTROLS = "\n\t\u200c\u200d"  # the last two join or separate letters in some scripts

_SPECIAL = re.compile(r"[^\w\s!-~]|[\x00-\x1f\x7f\x85\u00a0\u2028\u2029]")  # what may be one that is not shown as it is
_WORDS = re.compile(r"\s+|[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w+|[^\w\s]")
_MOST_WORDS = 2500  # of both answers, that are compared word by word; longer ones sentence by sentence
_SENTENCES = re.compile(r"[^.!?。！？\n]+[.!?。！？\n]*|[.!?。！？\n]+")


def visible(text: str) -> Markup:
    """The text as HTML; a character that is not shown as it is becomes its code point with its name."""
    pieces: list[Markup] = []
    start = 0
    for match in _SPECIAL.finditer(text):
        letter = match.group()
        if not _is_hidden(letter):
            continue
        pieces.append(escape(text[start : match.start()]))
        name = unicodedata.name(letter, "character without a shape")
        mark = Markup('<span class="mark" title="{}">U+{:04X}</span>')
        pieces.append(mark.format(name, ord(letter)))
        start = match.end()
    pieces.append(escape(text[start:]))
    return Markup("").join(pieces)


def cleaned(text: str) -> str:
    """The text with a replacement character for what `visible` shows by its code point: for a terminal, or a title."""
    return _SPECIAL.sub(lambda match: "\ufffd" if _is_hidden(match.group()) else match.group(), text)


def _is_hidden(letter: str) -> bool:
    return letter not in ALLOWED_CONTROLS and unicodedata.category(letter).startswith(("C", "Zl", "Zp"))


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text, and whether the other text lacks it."""

    text: str
    changed: bool


def word_diff(first: str, second: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces: what they share, and what each alone has. Long texts are compared by sentences."""
    words = _WORDS.findall(first), _WORDS.findall(second)
    if sum(map(len, words)) > _MOST_WORDS:
        words = _SENTENCES.findall(first), _SENTENCES.findall(second)
    matcher = difflib.SequenceMatcher(None, *words, autojunk=sum(map(len, words)) > _MOST_WORDS)
    sides: tuple[list[Piece], list[Piece]] = ([], [])
    for operation, start, end, other_start, other_end in matcher.get_opcodes():
        changed = operation != "equal"
        for side, part in zip(sides, (words[0][start:end], words[1][other_start:other_end]), strict=True):
            if part:
                side.append(Piece("".join(part), changed))
    return sides


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a context, [start, end) in characters, between two borders of passages; `used` where one covers it."""

    start: int
    end: int
    text: str
    used: bool


def passages_of(context: str, spans: Iterable[Sequence[int]]) -> list[Passage]:
    """The context cut at every border of the spans, so that each span is some parts in a row."""
    inside = [(max(0, start), min(len(context), end)) for start, end in spans]
    spans = [(start, end) for start, end in inside if start < end]
    borders = sorted({0, len(context), *(border for span in spans for border in span)})
    steps: dict[int, int] = dict.fromkeys(borders, 0)  # how many spans begin less how many end
    for start, end in spans:
        steps[start] += 1
        steps[end] -= 1
    passages: list[Passage] = []
    covering = 0
    for start, end in pairwise(borders):
        covering += steps[start]
        passages.append(Passage(start, end, context[start:end], covering > 0))
    return passages


def fact_spans(facts: Iterable[Mapping[str, object]]) -> list[tuple[int, int]]:
    """[start, end) of every passage of some facts of `pair_details`."""
    spans: list[tuple[int, int]] = []
    for fact in facts:
        passages = fact["passages"]
        assert isinstance(passages, list)
        spans += [(passage["start"], passage["end"]) for passage in passages]
    return spans
