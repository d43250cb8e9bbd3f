"""LongReward's rule: rejected is the answer with the lowest reward. Of several, in the ranking's order.

Nothing is drawn. An answer above the lowest never stands in for it.
"""

import random
from collections.abc import Sequence

from tasks.pairing import Ranked, Rule


def candidates(ranking: Sequence[Ranked], draw: random.Random) -> list[Ranked]:
    """All answers that share the lowest reward."""
    return [each for each in ranking if each.reward == ranking[-1].reward]


RULE = Rule("best_vs_worst", candidates, extremes_only=True)
