"""Fitting a prompt to a length: a stretch of its text is filled until the whole prompt has as many tokens as asked for.

The stretch is filled up to the end of a word, and then, where more than `TOLERANCE` tokens are missing, with a part of
the next word. So a prompt is never longer than its length, and at most `TOLERANCE` tokens shorter.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence

from infra.errors import EvaluationError
from tasks.evaluation.generated.counting import CountedText, Render, TextCounter

TOLERANCE = 4  # tokens that a prompt may be shorter than its length


def filled(
    counted: CountedText,
    start: int,
    end: int,
    filling: str,
    ends: Sequence[int],
    length: int,
    counter: TextCounter,
    render: Render,
) -> CountedText:
    """The text with [start, end) replaced by the beginning of `filling` that brings the prompt to `length` tokens.

    `ends` are the places in `filling` at which it is best cut, ascending, 0 among them. Raises EvaluationError when
    the prompt is longer without any filling, or shorter with all of it.
    """

    def cut(place: int) -> CountedText:
        return counter.replaced(counted, start, end, filling[:place])

    def gap(place: int) -> int:
        return length - counter.prompt(cut(place), render)

    place = _last_that_fits(ends, gap)
    if gap(place) > TOLERANCE and place < len(filling):
        place = _last_that_fits(range(place, len(filling) + 1), gap)
    missing = gap(place)
    if not 0 <= missing <= TOLERANCE:
        raise EvaluationError(
            f"no generated prompt of {length} tokens can be made: one has {length - missing}; give longer `lengths`"
        )
    return cut(place)


def _last_that_fits(places: Sequence[int], gap: Callable[[int], int]) -> int:
    """The last place with no negative gap; the first one when none has. Gaps become smaller from place to place."""
    index = bisect_right(places, 0, key=lambda place: -gap(place)) - 1
    # One more character may make a token fewer, so a later place may fit as well, and the search may stop beside it.
    while index > 0 and gap(places[index]) < 0:
        index -= 1
    return places[max(0, index)]


def word_ends(text: str) -> list[int]:
    """0, the places after each word, and after each character of a script that is written without spaces."""
    ends = [0]
    for place in range(1, len(text)):
        if text[place].isspace() or ord(text[place]) > 0x2E7F or ord(text[place - 1]) > 0x2E7F:
            ends.append(place)
    return [*ends, len(text)] if text else ends
