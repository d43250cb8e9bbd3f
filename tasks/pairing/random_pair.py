"""Random pairs: one answer drawn at random is chosen over another. A baseline, and no score decides.

The answers are shuffled by seed. A pair's rewards are places in that order, from 1 downwards: they say nothing of how
good an answer is.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import combinations

from tasks.pairing import DIGITS, Couple, Ranked, Rule
from tasks.records.example import Answer, Example


def rank(example: Example, answers: Sequence[Answer], draw: random.Random) -> list[Ranked]:
    """The answers in random order, whatever order they came in."""
    drawn = sorted(answers, key=lambda answer: answer.sample_index)
    draw.shuffle(drawn)
    return [Ranked(answer, round(1 - place / len(drawn), DIGITS)) for place, answer in enumerate(drawn)]


def candidates(ranking: Sequence[Ranked], draw: random.Random) -> list[Ranked]:
    """Every answer after the first, in the order drawn."""
    return list(ranking[1:])


def further(ranking: Sequence[Ranked], candidates: Sequence[Ranked]) -> Iterator[Couple]:
    """Each answer over each that was drawn after it."""
    return combinations(ranking, 2)


RULE = Rule("random_pair", candidates, further, rank=rank)
