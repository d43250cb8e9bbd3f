"""Claims: an answer is as good as what it states is stated by the other answers too. No judge is asked.

Consensus by statements and not by whole answers, after Atomic Self-Consistency (Thirukovalluru et al. 2024, arXiv
2405.13131): an answer with all items of a list, or all steps of a chain, is rarely the typical one, but each of its
statements is common. The statements of an answer are its sentences and lines, each once; its final answer ("Answer:")
is one of them. A statement's share is the part of the answers that state it: that have a sentence whose token F1 with
it is `likeness` or more. The score of an answer is the sum over its statements of share - `cost`: what few answers
state counts against an answer, and what says nothing new costs too. It has no upper end, and grows with what an answer
has to say; `cost` is what keeps it from growing with words.

Equal answers score the same. An answer without text has no score and does not count. Scores are rounded to 6 decimals.
The evidence has the number of statements and of answers.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from infra.recipe import RecipeSection
from infra.recipe.models import Fraction
from tasks.judging.context import SCORE_DIGITS, AnsweredQuestion, ScoringContext
from tasks.metrics import bags_f1
from tasks.records.example import Judgement
from tasks.scoring import Scorer
from tasks.sentences import split_sentences
from tasks.sub_em import normalised_tokens

NAME = "claims"

Statement = tuple[str, ...]  # its tokens in normal form, sorted


class ClaimsSettings(RecipeSection):
    """Which statements are the same, and what one costs."""

    likeness: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="sentences state the same from this token F1 on; 1: the same words in any order"
    )
    cost: Fraction = Field(0.05, description="share of the answers from which on a statement counts for an answer")


def score(questions: Sequence[AnsweredQuestion], settings: ClaimsSettings, scoring: ScoringContext) -> list[Judgement]:
    """One judgement for each answer of each question."""
    judgements = []
    for question in questions:
        statements = [statements_of(answer.text) for answer in question.answers]
        shares = statement_shares(statements, settings.likeness)
        for answer, of_answer in zip(question.answers, statements, strict=True):
            value = sum(shares[statement] - settings.cost for statement in sorted(of_answer))
            evidence = {"samples": len(statements), "statements": len(of_answer)}
            judgements.append(answer.judged(NAME, round(value, SCORE_DIGITS), None, evidence))
    return judgements


def statements_of(text: str) -> set[Statement]:
    """The statements of an answer."""
    statements = set()
    for line in text.splitlines():
        for sentence in split_sentences(line):
            tokens = normalised_tokens(sentence)
            if tokens:
                statements.add(tuple(sorted(tokens)))
    return statements


def statement_shares(answers: Sequence[set[Statement]], likeness: float) -> dict[Statement, float]:
    """For every statement the part of the answers that state it."""
    counts = Counter(statement for statements in answers for statement in statements)
    if likeness >= 1:
        return {statement: count / len(answers) for statement, count in counts.items()}
    bags = {statement: Counter(statement) for statement in counts}
    shares = {}
    for statement, bag in bags.items():
        alike = {other for other, other_bag in bags.items() if bags_f1(bag, other_bag) >= likeness}
        shares[statement] = sum(not alike.isdisjoint(of_answer) for of_answer in answers) / len(answers)
    return shares


SCORER = Scorer(NAME, ClaimsSettings, score, compares=True)
