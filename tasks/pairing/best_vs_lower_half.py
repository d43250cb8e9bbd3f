"""SeaLong's rule: rejected is one drawn at random from the lower half of the ranking.

The lower half of n answers is the last n // 2 of the ranking; with an odd n the middle answer is in neither
half. Ties at its edge fall as the ranking puts them. The draw is a seeded shuffle, whose first is the answer
drawn and whose others stand in when the pair is no good.
"""

import random
from collections.abc import Sequence

from tasks.pairing import Ranked, Rule


def candidates(ranking: Sequence[Ranked], draw: random.Random) -> list[Ranked]:
    """The lower half, shuffled."""
    half = list(ranking[len(ranking) - len(ranking) // 2 :])
    draw.shuffle(half)
    return half


RULE = Rule("best_vs_lower_half", candidates)
