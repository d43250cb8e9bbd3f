"""Short over full, LongPO's rule: an answer over the evidence alone is chosen over one over the whole context.

It takes sampling.context: evidence. No score decides: the rewards of a pair say what its answers have seen, 1 for the
evidence, 0 for the whole context. Both are drawn at random; the shuffles are seeded, and the next ones stand in when a
pair is no good. Each pair that may follow is of two others. To choose by scores between the same answers, take another
rule: it looks at rewards, and not at what an answer has seen.
"""

import random
from collections.abc import Sequence

from tasks.pairing import Couple, Ranked, Rule
from tasks.records.example import Answer, Example


def rank(example: Example, answers: Sequence[Answer], draw: random.Random) -> list[Ranked]:
    """The answers over the evidence with a reward of 1, then those over the whole context with 0, both shuffled."""
    short = [Ranked(answer, 1.0) for answer in answers if answer.seen is not None]
    full = [Ranked(answer, 0.0) for answer in answers if answer.seen is None]
    draw.shuffle(short)
    draw.shuffle(full)
    return [*short, *full]


def candidates(ranking: Sequence[Ranked], draw: random.Random) -> list[Ranked]:
    """The answers over the whole context, as shuffled."""
    return [ranked for ranked in ranking if ranked.answer.seen is None]


def further(ranking: Sequence[Ranked], candidates: Sequence[Ranked]) -> list[Couple]:
    """Each answer over the evidence with each over the whole context."""
    short = [ranked for ranked in ranking if ranked.answer.seen is not None]
    return [(chosen, rejected) for chosen in short for rejected in candidates]


RULE = Rule("short_over_full", candidates, further, needs_short=True, rank=rank)
