"""The parts of documents that questions are written from: whole paragraphs of a part that stands in the question's row.

A document that is longer than `asking.document_tokens` is cut into parts at paragraphs. Lengths are in tokens of the
policy, by the document's own characters to a token, so they are about right. Every draw is seeded.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from infra.recipe import Asking
from tasks.asking.kind import Source

_GAP = re.compile(r"\n[ \t]*\n\s*|\n")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^\sa-z])|(?<=[。！？])")
_FEWEST_CHARACTERS = 80  # of a passage that a question can be written from

Part = tuple[int, int]  # [start, end) in characters


@dataclass(frozen=True, slots=True)
class Lengths:
    """The recipe's lengths in characters of one document."""

    shortest: int
    longest: int
    part: int

    @classmethod
    def of(cls, asking: Asking, characters_per_token: float) -> "Lengths":
        """The lengths of a document whose tokens have so many characters."""
        tokens = asking.min_span_tokens, asking.max_span_tokens, asking.document_tokens
        return cls(*(max(1, int(count * characters_per_token)) for count in tokens))


def pieces_of(text: str) -> list[Part]:
    """The paragraphs of a text without the blanks between them; lines where there are no blank lines."""
    pieces = []
    start = 0
    for gap in [*_GAP.finditer(text), None]:
        end = len(text) if gap is None else gap.start()
        stripped = text[start:end].strip()
        if stripped:
            first = start + text[start:end].index(stripped)
            pieces.append((first, first + len(stripped)))
        start = end if gap is None else gap.end()
    return pieces


def fine_pieces(text: str, longest: int) -> list[Part]:
    """The paragraphs, of which those longer than `longest` characters are cut at sentences, or where they must be."""
    pieces: list[Part] = []
    for start, end in pieces_of(text):
        if end - start <= longest:
            pieces.append((start, end))
            continue
        first = start
        ends = [start + match.start() for match in _SENTENCE_END.finditer(text[start:end])] + [end]
        for place, sentence_end in enumerate(ends):
            following = ends[place + 1] if place + 1 < len(ends) else None
            if following is None or following - first > longest:
                while sentence_end - first > longest:
                    pieces.append((first, first + longest))
                    first += longest
                if text[first:sentence_end].strip():
                    pieces.append((first, sentence_end))
                first = sentence_end
    return pieces


def cut_parts(text: str, longest: int, turns: Sequence[Part] = ()) -> list[Part]:
    """The text in parts of at most so many characters, at paragraphs; the whole text where it is not longer.

    `turns`: those of a history, which are its pieces; one that is longer is a part.
    """
    if len(text) <= longest:
        return [(0, len(text))]
    parts: list[Part] = []
    for start, end in turns or fine_pieces(text, longest):
        if parts and end - parts[-1][0] <= longest:
            parts[-1] = (parts[-1][0], end)
        else:
            parts.append((start, end))
    return parts


def choose_spans(
    text: str, source: Source, lengths: Lengths, rng: random.Random, turns: Sequence[Part] = ()
) -> list[Part]:
    """The spans of a text that a question of this source is written from; none where the text is too short for it.

    Of a history they are whole turns.
    """
    if len(text.strip()) < _FEWEST_CHARACTERS:
        return []
    if source == "whole":
        return [(0, len(text))]
    pieces = turns or fine_pieces(text, lengths.longest)
    longest = lengths.longest if source == "long" else rng.randint(lengths.shortest, lengths.longest)
    if source == "apart":
        return _apart(pieces, longest, rng)
    return [_stretch(pieces, rng.randrange(len(pieces)), longest)]


def _apart(pieces: Sequence[Part], longest: int, rng: random.Random) -> list[Part]:
    """Two stretches of half the length that do not touch; one where the text has no room for two."""
    whole = _stretch(pieces, 0, longest)
    if whole[1] == pieces[-1][1] or len(pieces) < 2:  # all of it fits
        return [whole]
    first = _stretch(pieces, rng.randrange(len(pieces)), longest // 2)
    outside = [place for place, (start, end) in enumerate(pieces) if end <= first[0] or start >= first[1]]
    if not outside:
        return [first]
    place = rng.choice(outside)
    second = _stretch(pieces, place, longest // 2)
    start, end = second
    if start < first[0] < end:
        end = first[0]
    elif start < first[1] < end:
        start = first[1]
    return sorted([first, (start, end)])


def _stretch(pieces: Sequence[Part], place: int, longest: int) -> Part:
    """Pieces around the one at `place`, after it and then before it, that have at most so many characters."""
    start, end = pieces[place]
    last = first = place
    while last + 1 < len(pieces) and pieces[last + 1][1] - start <= longest:
        last += 1
        end = pieces[last][1]
    while first > 0 and end - pieces[first - 1][0] <= longest:
        first -= 1
        start = pieces[first][0]
    return start, end
