"""SeaLong's rule: rejected is one drawn at random from the lower half of the ranking.

The lower half of n answers is the last n // 2 of the ranking; with an odd n the middle answer is in neither
half. Ties at its edge fall as the ranking puts them. The draw is a seeded shuffle, whose first is the answer
drawn and whose others stand in when the pair is no good. Of the pairs that may follow, an answer of the upper half
is chosen over one of the lower: the second best over the next one drawn, and so on, before an answer comes a second
time.
"""

import random
from collections.abc import Iterable, Sequence
from itertools import product

from tasks.pairing import Couple, Ranked, Rule


def candidates(ranking: Sequence[Ranked], draw: random.Random) -> list[Ranked]:
    """The lower half, shuffled."""
    half = list(ranking[len(ranking) - len(ranking) // 2 :])
    draw.shuffle(half)
    return half


def further(ranking: Sequence[Ranked], candidates: Sequence[Ranked]) -> Iterable[Couple]:
    """Each answer of the upper half, best first, over each of the lower, in the order drawn."""
    return product(ranking[: len(ranking) // 2], candidates)


RULE = Rule("best_vs_lower_half", candidates, further)
