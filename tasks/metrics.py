"""Measures of an answer against references, and of two texts against each other: SubEM, token F1, ROUGE-L.

Texts become tokens by script, without a language setting: a run of letters and digits is one token, and each
character of a script written without spaces (Han, kana, Thai, Lao, Khmer, Burmese, Tibetan) is one token.
SubEM and F1 use SQuAD's normalisation (lower case, no punctuation, no articles, single spaces), after Unicode
NFKC so that full-width forms and composed accents compare equal; ROUGE-L splits at everything that is no
letter or digit, as the rouge-score library does for ASCII.

Two guards on SubEM, both deviations from a bare substring test. A reference that normalises to nothing ("The",
"?!") would match everything; it never counts, and with no usable reference there is no score (None). A match
must begin and end at token edges, so that "no" is not found inside "know". Since punctuation is removed without
a space ("U.S." is "us") or with one ("1990–1995" is two years), a match in either reading counts.

Leaves out: stemming, word segmentation of Chinese, number words.
"""

import re
import string
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tasks.records.example import Example

Tokens = list[str]

LIST = "list"  # kind of a question that asks for all of several items

_ARTICLES = frozenset({"a", "an", "the"})
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_FINAL = re.compile(r"^[ \t*_#>]*(?:(?:final )?answer|(?:最终)?答案)[ \t*_]*[:\uff1a][ \t*_]*", re.I | re.M)


def sub_em(prediction: str, references: Sequence[str]) -> float | None:
    """1.0 when a reference occurs in the prediction, else 0.0; None when no reference is usable."""
    readings = [(_squad_tokens(prediction, read), read) for read in (_JOINED, _SPACED)]
    usable = [reference for reference in references if normalised_tokens(reference)]
    if not usable:
        return None
    found = any(_contains(tokens, _squad_tokens(text, read)) for text in usable for tokens, read in readings)
    return float(found)


def example_sub_em(prediction: str, example: Example) -> float | None:
    """SubEM of an answer to an example. References are alternatives, except in a list question (kind "list"):
    there each is an item, and the answer must hold them all."""
    if example.kind != LIST:
        return sub_em(prediction, example.references)
    found = [score for each in example.references if (score := sub_em(prediction, [each])) is not None]
    return min(found, default=None)


def gold_value(text: str, example: Example) -> float | None:
    """How right an answer is, in [0, 1]: SubEM; of a list question the share of its items. None without references."""
    if example.kind != LIST:
        return example_sub_em(text, example)
    found = [score for each in example.references if (score := sub_em(text, [each])) is not None]
    return sum(found) / len(found) if found else None


def whole_references(example: Example) -> tuple[str, ...]:
    """References that each stand for a whole answer: a list question's items become one."""
    return (", ".join(example.references),) if example.kind == LIST and example.references else example.references


def token_f1(prediction: str, references: Sequence[str]) -> float | None:
    """SQuAD's F1 over bags of normalised tokens, in [0, 1], best over references; None without a usable one."""
    predicted = Counter(normalised_tokens(prediction))
    scores = [_overlap(predicted, Counter(tokens)) for text in references if (tokens := normalised_tokens(text))]
    return max(scores, default=None)


def rouge_l(prediction: str, references: Sequence[str]) -> float | None:
    """ROUGE-L F-measure (2PR / (P + R) of the longest common subsequence), best over references, in [0, 1]."""
    predicted = rouge_tokens(prediction)
    scores = [rouge_l_of(predicted, tokens) for text in references if (tokens := rouge_tokens(text))]
    return max(scores, default=None)


def rouge_l_of(first: Tokens, second: Tokens) -> float:
    """ROUGE-L F-measure of two token lists; 0.0 when either is empty. Symmetric."""
    return _f_measure(_common_subsequence(_positions(first), len(first), second), len(first), len(second))


def rouge_l_matrix(texts: Sequence[str]) -> NDArray[np.float64]:
    """ROUGE-L F of every pair of texts, [n, n], symmetric; a text with itself is 1.0, tokens or not."""
    tokens = [rouge_tokens(text) for text in texts]
    positions = [_positions(each) for each in tokens]
    matrix = np.eye(len(texts))
    for i, first in enumerate(tokens):
        for j in range(i):
            length = _common_subsequence(positions[i], len(first), tokens[j])
            matrix[i, j] = matrix[j, i] = _f_measure(length, len(first), len(tokens[j]))
    return matrix


def likeness(first: str, second: str) -> float:
    """Share of words that two texts have in common, in [0, 1]: twice the common ones over all, as bags."""
    if first.split() == second.split():
        return 1.0
    return _overlap(Counter(rouge_tokens(first)), Counter(rouge_tokens(second)))


def final_answer(text: str) -> str:
    """What follows the last line that begins with "Answer:" (or "答案："), stripped; the whole text without one."""
    marks = list(_FINAL.finditer(text))
    return text[marks[-1].end() :].strip() if marks else text.strip()


def normalised(text: str) -> str:
    """SQuAD's normal form: NFKC, lower case, punctuation and articles removed, one space between tokens."""
    return " ".join(normalised_tokens(text))


def normalised_tokens(text: str) -> Tokens:
    """The tokens of the normal form."""
    return _squad_tokens(text, _JOINED)


def rouge_tokens(text: str) -> Tokens:
    """Tokens for ROUGE: lower case, split at everything that is no letter, mark or digit."""
    return unicodedata.normalize("NFKC", text).lower().translate(_WORDS).split()


def _contains(tokens: Tokens, wanted: Tokens) -> bool:
    """True when `wanted` (not empty) is a contiguous part of `tokens`."""
    # Tokens hold no space, so a padded substring test is exact, and fast on long answers.
    return f" {' '.join(wanted)} " in f" {' '.join(tokens)} " if wanted else False


def _overlap(first: Counter[str], second: Counter[str]) -> float:
    return _f_measure((first & second).total(), first.total(), second.total())


def _f_measure(common: int, first: int, second: int) -> float:
    """2PR / (P + R) with P = common / first and R = common / second, which is 2 common / (first + second)."""
    return 2 * common / (first + second) if common else 0.0


def _positions(tokens: Tokens) -> dict[str, int]:
    """For each token the bit set of its positions."""
    bits: dict[str, int] = {}
    for position, token in enumerate(tokens):
        bits[token] = bits.get(token, 0) | 1 << position
    return bits


def _common_subsequence(positions: Mapping[str, int], length: int, other: Tokens) -> int:
    """Length of the longest common subsequence, bit-parallel (Hyyrö 2004): one big-integer row a token."""
    full = (1 << length) - 1
    row = full
    for token in other:
        if (match := row & positions.get(token, 0)) != 0:
            row = ((row + match) | (row - match)) & full
    return length - row.bit_count()


def _squad_tokens(text: str, table: "_Characters") -> Tokens:
    tokens = unicodedata.normalize("NFKC", text).lower().translate(table).split()
    return [token for token in tokens if token not in _ARTICLES]


class _Characters(dict[int, str]):
    """A translation table that works each character out once."""

    def __init__(self, become: Callable[[str], str]) -> None:
        self._become = become

    def __missing__(self, code: int) -> str:
        character = chr(code)
        result = f" {character} " if _UNSPACED.match(character) else self._become(character)
        self[code] = sys.intern(result)
        return result


def _without_punctuation(character: str, instead: str) -> str:
    category = unicodedata.category(character)
    if category.startswith("P") or character in string.punctuation:
        return instead
    return "" if category == "Cf" else character  # zero-width joiners, soft hyphens, marks of direction


def _word_character(character: str) -> str:
    return character if unicodedata.category(character)[0] in "LMN" else " "


_JOINED = _Characters(partial(_without_punctuation, instead=""))
_SPACED = _Characters(partial(_without_punctuation, instead=" "))
_WORDS = _Characters(_word_character)
