"""Likelihood: how sure the policy was of its answer: the mean log-probability of the answer's tokens. Nothing is asked.

It takes `sampling.logprobs: true`: then the server sends them with each answer, and they lie in the ledger with its
reply (some hundred bytes a token). The score is at most 0, rounded to 6 decimals; thinking counts where the server
lists it. A reply without log-probabilities, or one that has gone from the ledger, gives no score: "no_logprobs".
"""

import json
import math
from collections.abc import Sequence

from infra.errors import RecipeError
from infra.recipe import RecipeSection
from tasks.judging.context import SCORE_DIGITS, AnsweredQuestion, ScoringContext
from tasks.records.example import Judgement
from tasks.scoring import Scorer

NAME = "likelihood"


class LikelihoodSettings(RecipeSection):
    """Nothing can be set."""


def score(
    questions: Sequence[AnsweredQuestion], settings: LikelihoodSettings, scoring: ScoringContext
) -> list[Judgement]:
    """One judgement for each answer of each question. Raises RecipeError where the recipe asks for no logprobs."""
    if not scoring.recipe.sampling.logprobs or scoring.ledger is None:
        raise RecipeError(f"scoring.scorers: {NAME} reads what the server says of each token; set sampling.logprobs")
    judgements = []
    for question in questions:
        entries = scoring.ledger.lookup([answer.key for answer in question.answers])
        for answer in question.answers:
            entry = entries.get(answer.key)
            value = None if entry is None else mean_logprob(entry.reply)
            judgements.append(answer.judged(NAME, value, "no_logprobs" if value is None else None))
    return judgements


def mean_logprob(reply: str) -> float | None:
    """The mean log-probability of a chat completion's tokens, from its JSON; None without any."""
    try:
        content = json.loads(reply)["choices"][0]["logprobs"]["content"]
        values = [float(token["logprob"]) for token in content]
    except (ValueError, LookupError, TypeError):
        return None
    mean = sum(values) / len(values) if values else math.nan
    return round(mean, SCORE_DIGITS) if math.isfinite(mean) else None


SCORER = Scorer(NAME, LikelihoodSettings, score)
