"""The expected rating: the mean of the judge's own distribution over the ratings, from one output token.

The judge is asked for one digit, 0 to 9, because every tokenizer has the digits as single tokens and few have
10. Score = 10/9 · Σ p(d)·d over the digits among the 20 likeliest tokens, their probabilities normalised. When
digits make up less than half of the probability, the judge did not rate, and there is no score. Asked at
temperature 1, so that servers that report the probabilities they sample from report the model's own as well.
"""

import json
import math
from collections.abc import Iterator
from typing import Any

from tasks.judging.replies import Unusable

PARAMETERS = (("logprobs", True), ("temperature", 1.0), ("top_logprobs", 20))
MAX_TOKENS = 1
_LEAST_MASS = 0.5
_DIGITS = "0123456789"
_WORD_STARTS = " \t\r\n▁ĠĊ"  # blanks, and what they look like in the vocabularies of tokenizers


def read_expected(raw: str) -> float:
    """The expected rating, in 0..10 to 6 decimals, of a chat completion's JSON with logprobs. Raises Unusable."""
    try:
        likeliest = list(_likeliest(json.loads(raw)["choices"][0]["logprobs"]["content"][0]))
    except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        raise Unusable("no_logprobs") from error
    mass = [math.fsum(p for token, p in likeliest if token.strip(_WORD_STARTS) == digit) for digit in _DIGITS]
    total = math.fsum(mass)
    if not total >= _LEAST_MASS:
        raise Unusable("off_scale")
    return round(10 / 9 * math.fsum(digit * p for digit, p in enumerate(mass)) / total, 6)


def _likeliest(place: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """(token, probability) of the likeliest tokens at a place; the one that was drawn may stand beside the list."""
    listed = [*place["top_logprobs"]]
    if not any(each["token"] == place["token"] for each in listed) and "logprob" in place:
        listed.append(place)
    for each in listed:
        logprob = float(each["logprob"])
        if math.isnan(logprob):
            raise ValueError("a logprob that is no number")
        yield str(each["token"]), math.exp(min(logprob, 0.0))
