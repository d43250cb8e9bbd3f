"""Oracle pairs: a right answer is chosen over the most wrong one, by the references. An upper bound, never a method.

References are for reporting only: this rule exists so that a scorer's pairs can be compared with the best that the
same answers allow. The reward is the gold value (SubEM; of a list question the share of its items). Rejected is drawn
at random from those with the lowest value; the shuffle is seeded.
"""

import random
from collections.abc import Sequence

from infra.canonical import text_id
from tasks.metrics import gold_value
from tasks.pairing import DIGITS, Ranked, Rule
from tasks.pairing.best_vs_worst import further
from tasks.records.example import Answer, Example


def rank(example: Example, answers: Sequence[Answer], draw: random.Random) -> list[Ranked]:
    """Best value first; equal values by the text's hash, equal texts by sample index. Empty without references."""
    valued = [(gold_value(answer.text, example), answer) for answer in answers]
    right_first = [Ranked(answer, round(value, DIGITS)) for value, answer in valued if value is not None]
    return sorted(right_first, key=lambda ranked: (-ranked.reward, text_id(ranked.answer.text), ranked.index))


def candidates(ranking: Sequence[Ranked], draw: random.Random) -> list[Ranked]:
    """All answers that share the lowest value, shuffled."""
    worst = [ranked for ranked in ranking if ranked.reward == ranking[-1].reward]
    draw.shuffle(worst)
    return worst


RULE = Rule("oracle", candidates, further, rank=rank)
