"""LongReward's rule: rejected is the answer with the lowest reward. Of several, in the ranking's order.

Nothing is drawn. An answer above the lowest never stands in for it. Of the pairs that may follow, any answer is
chosen over any with a lower reward, the widest margin first: the second best over the second worst, and so on
inwards, before an answer comes a second time.
"""

import random
from collections.abc import Sequence
from itertools import combinations

from tasks.pairing import Couple, Ranked, Rule, margin


def candidates(ranking: Sequence[Ranked], draw: random.Random) -> list[Ranked]:
    """All answers that share the lowest reward."""
    return [ranked for ranked in ranking if ranked.reward == ranking[-1].reward]


def further(ranking: Sequence[Ranked], candidates: Sequence[Ranked]) -> list[Couple]:
    """Each answer over each below it, by margin; equal margins in the ranking's order."""
    return sorted(combinations(ranking, 2), key=lambda couple: -margin(*couple))


RULE = Rule("best_vs_worst", candidates, further, extremes_only=True)
