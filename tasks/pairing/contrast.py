"""Contrast: a stronger model's answer is chosen over one of the policy's own. A baseline, and no score decides.

The stronger model (recipe section `strong`) is asked once for each question, with the same prompt. Rejected is one of
the policy's answers, drawn at random; the shuffle is seeded, and the others stand in when the pair is no good. The
rewards of a pair say who wrote it, not how good it is: 1 for the stronger model, 0 for the policy. The pairs that may
follow are the stronger model's answer over each of the others, in the order drawn.
"""

import random
from collections.abc import Sequence

from tasks.pairing import Couple, Ranked, Rule


def candidates(ranking: Sequence[Ranked], draw: random.Random) -> list[Ranked]:
    """The policy's own answers, shuffled."""
    own = list(ranking[1:])
    draw.shuffle(own)
    return own


def further(ranking: Sequence[Ranked], candidates: Sequence[Ranked]) -> list[Couple]:
    """The stronger model's answer over each of the policy's."""
    return [(ranking[0], ranked) for ranked in candidates]


RULE = Rule("contrast", candidates, further, chooses_strong=True)
