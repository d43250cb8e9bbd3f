"""Whether an answer says what a question's answer says, by rules: words, numbers, items, order."""

import re
from collections.abc import Sequence

from tasks.metrics import final_answer, token_f1
from tasks.sub_em import normalised_tokens, sub_em

_NUMBER = re.compile(r"[-+]?\d[\d,\u2009\u202f]*(?:\.\d+)?")
_SAME_WORDS = 0.75  # F1 over words from which two short answers are the same
_SAME_CHARACTERS = 0.9  # over characters, of Chinese: one other character is another name
_SAME_SUMMARY = 0.35  # of two longer texts
_CHINESE = re.compile("[\u4e00-\u9fff]")


def same_text(answers: Sequence[str], reply: str) -> bool:
    """True when the reply holds an answer as whole words, or has most words and all numbers in common with one."""
    text = final_answer(reply)
    if sub_em(text, answers) == 1.0:
        return True
    numbers = sorted(numbers_in(text))
    for answer in answers:
        limit = _SAME_CHARACTERS if _CHINESE.search(answer) else _SAME_WORDS
        if (token_f1(text, [answer]) or 0.0) >= limit and sorted(numbers_in(answer)) == numbers:
            return True
    return False


def same_items(answers: Sequence[str], reply: str) -> bool:
    """True when the reply holds every item."""
    text = final_answer(reply)
    return bool(answers) and all(sub_em(text, [item]) == 1.0 for item in answers)


def same_order(answers: Sequence[str], reply: str) -> bool:
    """True when the reply holds every item, in this order."""
    tokens = f" {' '.join(normalised_tokens(final_answer(reply)))} "
    place = 0
    for item in answers:
        words = " ".join(normalised_tokens(item))
        place = tokens.find(f" {words} ", place)
        if not words or place < 0:
            return False
        place += len(words)
    return bool(answers)


def same_number(answers: Sequence[str], reply: str) -> bool:
    """True when the first number of an answer is among the numbers of the reply; without numbers, by their words."""
    numbers = numbers_in(final_answer(reply))
    for answer in answers:
        expected = numbers_in(answer)
        if expected and expected[0] in numbers:
            return True
    return not any(map(numbers_in, answers)) and same_text(answers, reply)


def same_summary(answers: Sequence[str], reply: str) -> bool:
    """True when two longer texts have a good part of their words in common."""
    return (token_f1(reply, answers) or 0.0) >= _SAME_SUMMARY


def numbers_in(text: str) -> list[float]:
    """The numbers of a text, in order, without separators of thousands."""
    numbers = []
    for match in _NUMBER.findall(text):
        numbers.append(float(re.sub(r"[,\u2009\u202f]", "", match)))
    return numbers
