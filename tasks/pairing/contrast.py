"""Contrast: a stronger model's answer is chosen over one of the policy's own. A baseline, and no score decides.

The stronger model (recipe section `strong`) is asked once for each question, with the same prompt. Rejected is one of
the policy's answers, drawn at random; the shuffle is seeded, and the others stand in when the pair is no good. The
rewards of a pair say who wrote it, not how good it is: 1 for the stronger model, 0 for the policy.
"""

import random
from collections.abc import Sequence

from tasks.pairing import Ranked, Rule


def candidates(ranking: Sequence[Ranked], draw: random.Random) -> list[Ranked]:
    """The policy's own answers, shuffled."""
    own = list(ranking[1:])
    draw.shuffle(own)
    return own


RULE = Rule("contrast", candidates, chooses_strong=True)
