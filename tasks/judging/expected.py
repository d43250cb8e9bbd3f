"""The expected rating: the mean of the judge's own distribution over the ratings, from one output token.

The judge is asked for one digit, 0 to 9, because every tokenizer has the digits as single tokens and few have
10. Score = 10/9 · Σ p(d)·d over the digits among the 20 likeliest tokens, their probabilities normalised. When
digits make up less than half of the probability, the judge did not rate, and there is no score.
"""

import json
import math

from tasks.judging.replies import Unusable

PARAMETERS = (("logprobs", True), ("top_logprobs", 20))
MAX_TOKENS = 1
_LEAST_MASS = 0.5


def read_expected(raw: str) -> float:
    """The expected rating, in 0..10 to 6 decimals, of a chat completion's JSON with logprobs. Raises Unusable."""
    try:
        first = json.loads(raw)["choices"][0]["logprobs"]["content"][0]
        likeliest = [(str(each["token"]), float(each["logprob"])) for each in first["top_logprobs"]]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise Unusable("no_logprobs") from error
    mass: dict[int, float] = {}
    for token, logprob in likeliest:
        digit = token.strip(" \n\t▁Ġ")
        if len(digit) == 1 and digit in "0123456789":
            mass[int(digit)] = mass.get(int(digit), 0.0) + math.exp(logprob)
    total = math.fsum(mass.values())
    if total < _LEAST_MASS:
        raise Unusable("off_scale")
    return round(10 / 9 * math.fsum(digit * p for digit, p in sorted(mass.items())) / total, 6)
