"""Pairwise: the judge compares answers of one question two at a time. A baseline, not a dimension of LongReward.

Each answer meets some of the others, in both orders, without the context; it wins a duel when both orders say so, and
a duel whose orders disagree is a tie, because such a judge looks at the place and not at the answer. The score is 10 x
the mean over its duels of 1 for a win, 0.5 for a tie and 0 for a loss. Who meets whom is seeded and fair: the answers
stand in a ring, in an order drawn from the seed, and each meets its nearest, so that all have the same number of duels
(one more than asked for where both it and the number of answers are odd).

Defined at the edges: answers with the same text are one in the ring and have the same score; a duel for which the
judge has no usable word in one order takes no part; an answer without any duel has no score ("no_opponent"), nor has
one whose duels all lack a word (the reason of the first).
"""

from collections.abc import Mapping, Sequence

from pydantic import Field

from infra.recipe import Positive, Recipe, RecipeSection
from tasks.judging.context import AnsweredQuestion, ScoringContext
from tasks.judging.duels import answer_ring, collect_duels, duel_judgement, duel_query, duels
from tasks.judging.steps import Steps, ask
from tasks.records.example import Answer
from tasks.scoring import Scorer

NAME = "pairwise"


class PairwiseSettings(RecipeSection):
    """How many duels there are, and how the judge is asked."""

    opponents: Positive = Field(3, description="other answers that each answer meets; all of them when there are few")
    max_tokens: Positive = Field(64, description="longest reply of the judge, in tokens: the verdict stands alone")


def score(questions: Sequence[AnsweredQuestion], settings: PairwiseSettings, scoring: ScoringContext) -> Steps:
    """One judgement for each answer; evidence {"duels": [{"against", "first_order", "second_order", "reason"?}]}.

    `first_order` is the judge's verdict when this answer stood first (A: it is better), `second_order` when it stood
    second (B: it is better); null, with the reason, where there is none.
    """
    meetings: list[tuple[Answer, Answer]] = []
    queries = []
    for question in questions:
        ring = answer_ring(question, scoring.recipe.seed)
        for place, other_place in duels(len(ring), settings.opponents):
            first, second = ring[place], ring[other_place]
            meetings.append((first, second))
            queries.append(duel_query(question, first, second, settings.max_tokens, scoring))
            queries.append(duel_query(question, second, first, settings.max_tokens, scoring))
    verdicts = yield from ask(queries, "duels")
    duels_by_text = collect_duels(meetings, verdicts)
    judgements = []
    for question in questions:
        for answer in question.answers:
            judgements.append(duel_judgement(answer, duels_by_text.get((answer.example_id, answer.text.strip()), [])))
    return judgements


def calls(settings: PairwiseSettings, recipe: Recipe, context_tokens: int) -> Mapping[str, float]:
    """Judge calls for one question, by kind, if all its answers differ."""
    return {NAME: 2.0 * len(duels(recipe.sampling.samples, settings.opponents))}


def prompts(settings: PairwiseSettings, recipe: Recipe) -> tuple[str, ...]:
    """The prompt file that is used."""
    return (f"judge-{recipe.judge.prompts}-pairwise",) if recipe.judge else ()


SCORER = Scorer(NAME, PairwiseSettings, score, needs_judge=True, compares=True, calls=calls, prompts=prompts)
