"""Measures of an answer against references, and of two texts against each other: SubEM, token F1, ROUGE.

SubEM and its tokens are in `tasks/sub_em.py`; F1 has the same tokens. ROUGE splits at everything that is no letter or
digit, as the rouge-score library does for ASCII.

Leaves out: stemming, word segmentation of Chinese, number words.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.choices import chosen_letter, lettered_options
from tasks.records.example import Example
from tasks.sub_em import Characters, Tokens, normalised_tokens, occurs, sub_em

LIST = "list"  # kind of a question that asks for all of several items
CHOICE = "multiple_choice"  # kind of a question with options; its references are the right letter and its option's text

_FINAL = re.compile(r"^[ \t*_#>]*(?:(?:final )?answer|(?:最终)?答案)[ \t*_]*[:\uff1a][ \t*_]*", re.I | re.M)


def example_sub_em(prediction: str, example: Example) -> float | None:
    """SubEM of an answer to an example, or None without a usable reference.

    References are alternatives, except those of a list question (kind "list"): these are its items, and the answer
    must have them all. An answer to a multiple-choice question is right when it chooses the right option.
    """
    if options_of(example):
        return choice_accuracy(prediction, example)
    if example.kind != LIST:
        return sub_em(prediction, example.references)
    return min(_item_scores(prediction, example), default=None)


def gold_value(text: str, example: Example) -> float | None:
    """How right an answer is, in [0, 1]: SubEM; of a list question the share of its items. None without references."""
    if example.kind != LIST:
        return example_sub_em(text, example)
    scores = _item_scores(text, example)
    return sum(scores) / len(scores) if scores else None


def reference_reward(text: str, example: Example) -> float | None:
    """LongMab-PO's reward of an answer, in [0, 1] to 6 decimals: the mean of its gold value and the token F1 of its
    final answer; the gold value alone for options and lists. None without references."""
    value = gold_value(text, example)
    if value is None or options_of(example) or example.kind == LIST:
        return value
    return round((value + (token_f1(final_answer(text), example.references) or 0.0)) / 2, 6)


def options_of(example: Example) -> list[str]:
    """The options of a multiple-choice question, "A" first, from the lines of its text; empty for other questions."""
    return lettered_options(example.question) if example.kind == CHOICE else []


def choice_accuracy(prediction: str, example: Example) -> float | None:
    """1.0 when an answer chooses the right option, else 0.0; None without options or without a right one."""
    options = options_of(example)
    if not options or not example.references:
        return None
    chosen = chosen_letter(final_answer(prediction), options, occurs)
    return float(chosen == example.references[0])


def whole_references(example: Example) -> tuple[str, ...]:
    """The references of an example as whole answers: the items of a list question are joined to one, a right option is
    its text, alone and after its letter."""
    if options_of(example) and len(example.references) == 2:
        letter, text = example.references
        return (text, f"{letter}. {text}")
    if example.kind == LIST and example.references:
        return (", ".join(example.references),)
    return example.references


def token_f1(prediction: str, references: Sequence[str]) -> float | None:
    """SQuAD's F1 over bags of normalised tokens, in [0, 1], best over references; None without a usable one."""
    predicted = Counter(normalised_tokens(prediction))
    scores = []
    for reference in references:
        tokens = normalised_tokens(reference)
        if tokens:
            scores.append(bags_f1(predicted, Counter(tokens)))
    return max(scores, default=None)


def rouge_l(prediction: str, references: Sequence[str]) -> float | None:
    """ROUGE-L F-measure (2PR / (P + R) of the longest common subsequence), best over references, in [0, 1]."""
    predicted = rouge_tokens(prediction)
    scores = []
    for reference in references:
        tokens = rouge_tokens(reference)
        if tokens:
            scores.append(rouge_l_of(predicted, tokens))
    return max(scores, default=None)


def rouge_l_of(first: Tokens, second: Tokens) -> float:
    """ROUGE-L F-measure of two token lists; 0.0 when either is empty. Symmetric."""
    return _f_measure(_common_subsequence(_positions(first), len(first), second), len(first), len(second))


def rouge_l_matrix(texts: Sequence[str]) -> NDArray[np.float64]:
    """ROUGE-L F of every pair of texts, [n, n], symmetric; a text with itself is 1.0, tokens or not."""
    tokens = [rouge_tokens(text) for text in texts]
    matrix = np.eye(len(texts))
    for i, first in enumerate(tokens):
        positions = _positions(first)
        for j, second in enumerate(tokens[:i]):
            length = _common_subsequence(positions, len(first), second)
            matrix[i, j] = matrix[j, i] = _f_measure(length, len(first), len(second))
    return matrix


def rouge_n_of(first: Tokens, second: Tokens, n: int) -> float:
    """ROUGE-N F-measure of two token lists: their common runs of n tokens, as bags; 0.0 when one has no such run."""
    return bags_f1(_runs(first, n), _runs(second, n))


def rouge_n_matrix(texts: Sequence[str], n: int) -> NDArray[np.float64]:
    """ROUGE-N F of every pair of texts, [texts, texts], symmetric; a text with itself is 1.0, whatever it holds."""
    runs = [_runs(rouge_tokens(text), n) for text in texts]
    matrix = np.eye(len(texts))
    for i, first in enumerate(runs):
        for j, second in enumerate(runs[:i]):
            matrix[i, j] = matrix[j, i] = bags_f1(first, second)
    return matrix


def likeness(first: str, second: str) -> float:
    """Share of words that two texts have in common, in [0, 1]: twice the common words over all words, as bags."""
    if first.split() == second.split():
        return 1.0
    return bags_f1(Counter(rouge_tokens(first)), Counter(rouge_tokens(second)))


def final_answer(text: str) -> str:
    """The text after the last line beginning "Answer:" (or "答案："), stripped; the whole text without such a line."""
    starts = list(_FINAL.finditer(text))
    if starts:
        text = text[starts[-1].end() :]
    return text.strip()


def rouge_tokens(text: str) -> Tokens:
    """Tokens for ROUGE: lower case, split at everything that is no letter, mark or digit."""
    return unicodedata.normalize("NFKC", text).lower().translate(_WORDS).split()


def _item_scores(text: str, example: Example) -> list[float]:
    """SubEM of a text against every usable item of a list question."""
    scores = []
    for item in example.references:
        score = sub_em(text, [item])
        if score is not None:
            scores.append(score)
    return scores


def _runs(tokens: Tokens, n: int) -> Counter[str]:
    """The runs of n tokens in a text, each joined by spaces, which no token holds."""
    return Counter(" ".join(tokens[start : start + n]) for start in range(len(tokens) - n + 1))


def bags_f1(first: Counter[str], second: Counter[str]) -> float:
    """2PR / (P + R) of two bags of tokens, in [0, 1]; symmetric."""
    return _f_measure((first & second).total(), first.total(), second.total())


def _f_measure(common: int, first: int, second: int) -> float:
    """2PR / (P + R) with P = common / first and R = common / second, which is 2 common / (first + second)."""
    return 2 * common / (first + second) if common else 0.0


def _positions(tokens: Tokens) -> dict[str, int]:
    """The positions of every token in a text, as a bit set."""
    bits: dict[str, int] = {}
    for position, token in enumerate(tokens):
        bits[token] = bits.get(token, 0) | 1 << position
    return bits


def _common_subsequence(positions: Mapping[str, int], length: int, other: Tokens) -> int:
    """Length of the longest common subsequence of a text, given by `_positions` and its length in tokens, and another.

    Bit-parallel (Hyyrö 2004): a row of the table of lengths is one integer.
    """
    full = (1 << length) - 1
    row = full
    for token in other:
        match = row & positions.get(token, 0)
        if match:
            row = ((row + match) | (row - match)) & full
    return length - row.bit_count()


def _word_character(character: str) -> str:
    return character if unicodedata.category(character)[0] in "LMN" else " "


_WORDS = Characters(_word_character)
