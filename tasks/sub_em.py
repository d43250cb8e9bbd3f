"""SubEM: whether a reference answer occurs in an answer. It imports nothing of Longmill: exports take it along.

Texts become tokens by script, without a language setting: a run of letters and digits is one token, and each
character of a script written without spaces (Han, kana, Thai, Lao, Khmer, Burmese, Tibetan) is one token.
The normal form is SQuAD's (lower case, no punctuation, no articles, single spaces), after Unicode NFKC so that
full-width forms and composed accents compare equal.

SubEM is stricter than a plain substring test in two ways. A reference that normalises to nothing ("The", "?!")
would match everything, so it never counts, and with no usable reference there is no score (None). A match must begin
and end at token edges, so that "no" does not match inside "know". Punctuation is removed in two ways, without a space
("U.S." is "us") and with one ("1990–1995" is two years); a match in either reading counts.
"""

import re
import string
import sys
import unicodedata
from collections.abc import Callable, Sequence
from functools import partial

Tokens = list[str]

_ARTICLES = frozenset({"a", "an", "the"})
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def sub_em(prediction: str, references: Sequence[str]) -> float | None:
    """1.0 when a reference occurs in the prediction, else 0.0; None when no reference is usable."""
    usable = [reference for reference in references if normalised_tokens(reference)]
    if not usable:
        return None
    for table in (_JOINED, _SPACED):
        tokens = _squad_tokens(prediction, table)
        for reference in usable:
            if _contains(tokens, _squad_tokens(reference, table)):
                return 1.0
    return 0.0


def normalised(text: str) -> str:
    """SQuAD's normal form: NFKC, lower case, punctuation and articles removed, one space between tokens."""
    return " ".join(normalised_tokens(text))


def normalised_tokens(text: str) -> Tokens:
    """The tokens of the normal form."""
    return _squad_tokens(text, _JOINED)


def occurs(part: str, text: str) -> bool:
    """True when a text's normal form holds that of another, whole tokens only."""
    return _contains(normalised_tokens(text), normalised_tokens(part))


def _contains(tokens: Tokens, part: Tokens) -> bool:
    """True when `part` is a contiguous part of `tokens`, and not empty."""
    # Tokens have no space inside, so a substring test with spaces around both is exact, and fast on long answers.
    return bool(part) and f" {' '.join(part)} " in f" {' '.join(tokens)} "


def _squad_tokens(text: str, table: "Characters") -> Tokens:
    tokens = unicodedata.normalize("NFKC", text).lower().translate(table).split()
    return [token for token in tokens if token not in _ARTICLES]


class Characters(dict[int, str]):
    """A table for `str.translate` that is filled in as characters come; `replacement` gives the text for one."""

    def __init__(self, replacement: Callable[[str], str]) -> None:
        self._replacement = replacement

    def __missing__(self, code: int) -> str:
        character = chr(code)
        text = f" {character} " if _UNSPACED.match(character) else self._replacement(character)
        self[code] = sys.intern(text)
        return text


def _without_punctuation(character: str, instead: str) -> str:
    category = unicodedata.category(character)
    if category.startswith("P") or character in string.punctuation:
        return instead
    if category == "Cf":  # zero-width joiners, soft hyphens, direction marks
        return ""
    return character


_JOINED = Characters(partial(_without_punctuation, instead=""))
_SPACED = Characters(partial(_without_punctuation, instead=" "))
