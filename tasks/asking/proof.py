"""The sentences of a proof in the documents: verbatim, but for blanks and line breaks.

A prompt breaks up what would change its structure (tasks/judging/quoting.py): it puts in blanks and writes ‹ for some
<. Both are the same here.
"""

from collections.abc import Sequence

from tasks.asking.writing import Place
from tasks.records.question import EvidenceSpan

_FEWEST_CHARACTERS = 8  # of a sentence, without its blanks; shorter ones stand everywhere
_MARKS = str.maketrans({"‹": "<", "“": '"', "”": '"', "‘": "'", "’": "'"})


class Searchable:
    """A text in which sentences are searched; blanks do not count."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._places = [place for place, character in enumerate(text) if not character.isspace()]
        self._plain = plain(text)

    def find(self, sentence: str, start: int, end: int) -> tuple[int, int] | None:
        """[start, end) of the first place of a sentence within [start, end) of the text; None where it is not there."""
        needle = plain(sentence)
        place = self._plain.find(needle)
        while place >= 0:
            first, last = self._places[place], self._places[place + len(needle) - 1] + 1
            if first >= start and last <= end:
                return first, last
            place = self._plain.find(needle, place + 1)
        return None


def plain(text: str) -> str:
    """The text without blanks, with one kind of quotation marks."""
    return "".join(text.translate(_MARKS).split())


def find_proof(
    proof: Sequence[str], texts: Sequence[str], spans: Sequence[tuple[int, int, int]]
) -> list[EvidenceSpan] | str:
    """The place of each sentence, each once, in the order of the documents; or the first sentence that is not there.

    `texts` are the documents of a row. Only what was seen is searched: `spans` are (document, start, end).
    """
    searchable = [Searchable(text) for text in texts]
    evidence: dict[tuple[int, int, int], EvidenceSpan] = {}
    for sentence in proof:
        place = _find(sentence, searchable, spans) if len(plain(sentence)) >= _FEWEST_CHARACTERS else None
        if place is None:
            return sentence
        document, start, end = place
        evidence[place] = {
            "document": document,
            "start": start,
            "end": end,
            "sentence": searchable[document].text[start:end],
        }
    return [evidence[place] for place in sorted(evidence)]


def whole_turns(evidence: Sequence[EvidenceSpan], places: Sequence[Place]) -> list[EvidenceSpan]:
    """The proof of a question about a history: the turns that its sentences are of, each once, whole."""
    spans: dict[tuple[int, int, int], EvidenceSpan] = {}
    for span in evidence:
        place = places[span["document"]]
        turns = [turn for turn in place.turns if turn.heading < span["end"] and span["start"] < turn.end]
        if not turns:
            spans[span["document"], span["start"], span["end"]] = span
        for turn in turns:
            whole: EvidenceSpan = {**span, "start": turn.start, "end": turn.end}
            whole["sentence"] = place.text[turn.start : turn.end]
            spans[span["document"], turn.start, turn.end] = whole
    return [spans[place_of] for place_of in sorted(spans)]


def _find(
    sentence: str, searchable: Sequence[Searchable], spans: Sequence[tuple[int, int, int]]
) -> tuple[int, int, int] | None:
    for document, start, end in spans:
        place = searchable[document].find(sentence, start, end)
        if place is not None:
            return document, *place
    return None
