"""Claims: an answer is as good as what it states is stated by the other answers too. No judge is asked.

Consensus by statements and not by whole answers, after Atomic Self-Consistency (Thirukovalluru et al. 2024, arXiv
2405.13131): an answer with all items of a list, or all steps of a chain, is rarely the typical one, but each of its
statements is common. The statements of an answer are its sentences and lines, each once; its final answer ("Answer:")
is one of them. A statement's share is the part of the answers that state it: that have a sentence whose token F1 with
it is `likeness` or more. The same words in another order are another statement ("Ann beat Bob" is not "Bob beat Ann"),
unless it is the parts between commas and "and" that have another order ("Answer: Ann and Bob"). The score of an answer
is the sum over its statements of share - `cost`: what few answers state counts against an answer, and what says nothing
new costs too. It has no upper end, and grows with what an answer has to say; `cost` is what keeps it from growing with
words.

Equal answers score the same. An answer without text has no score and does not count. Scores are rounded to 6 decimals.
The evidence has the number of statements and of answers.
"""

import re
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

Statement = tuple[str, ...]  # its tokens in normal form, those of each part in their order

_LABEL = re.compile(r"[^:：]*[:：]")  # "Answer:", which belongs to no part
_BETWEEN_PARTS = re.compile(r"[,;](?=\s)|[，、；]|\b(?:and|or)\b|[和与及或]", re.IGNORECASE)


class ClaimsSettings(RecipeSection):
    """Which statements are the same, and what one costs."""

    likeness: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0,
        description="sentences state the same from this token F1 on, the same words in another order left out; "
        "1: the same words in the same order, lists in any",
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
            if normalised_tokens(sentence):
                statements.add(_in_normal_order(sentence))
    return statements


def _in_normal_order(sentence: str) -> Statement:
    """Its tokens: those before a colon, then part by part, the parts sorted, and last what stands between them."""
    label = _LABEL.match(sentence)
    start = label.end() if label else 0
    parts = sorted(normalised_tokens(part) for part in _BETWEEN_PARTS.split(sentence[start:]))
    ordered = [*normalised_tokens(sentence[:start]), *(token for part in parts for token in part)]
    between = Counter(normalised_tokens(sentence)) - Counter(ordered)
    return (*ordered, *sorted(between.elements()))


def statement_shares(answers: Sequence[set[Statement]], likeness: float) -> dict[Statement, float]:
    """For every statement the part of the answers that state it."""
    counts = Counter(statement for statements in answers for statement in statements)
    if likeness >= 1:
        return {statement: count / len(answers) for statement, count in counts.items()}
    bags = {statement: Counter(statement) for statement in counts}
    shares = {}
    for statement, bag in bags.items():
        alike = {statement}
        for other, other_bag in bags.items():
            if other_bag != bag and bags_f1(bag, other_bag) >= likeness:
                alike.add(other)
        shares[statement] = sum(not alike.isdisjoint(of_answer) for of_answer in answers) / len(answers)
    return shares


SCORER = Scorer(NAME, ClaimsSettings, score, compares=True)
