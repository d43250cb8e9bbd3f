"""Consensus: an answer is as good as it is close to what the policy answers on the whole. No judge is asked.

Minimum Bayes Risk decoding over the N samples of a question (SeaLong, arXiv 2411.08147): the score of an answer
y is the mean over all samples y*, itself included, of u(y, y*), where u is the inner product of L2-normalised
sentence embeddings, in [-1, 1], or the ROUGE-L F-measure, in [0, 1].

Defined at the edges: one sample scores 1.0. Equal texts score the same, exactly, and each of them counts as a
sample. An answer without text has no score and is no sample either: its reason is what became of its call
("prompt_too_long", "content_filter", ...), or "empty_answer" when the model said nothing. An answer that was cut
at max_tokens is scored as it stands. Scores are rounded to 6 decimals.

Leaves out: BERTScore and self-evaluation, which the paper also compares.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from infra.recipe import RecipeSection
from tasks.judging.context import AnsweredQuestion, ScoringContext, no_text_reason
from tasks.judging.steps import Job, Steps, compute
from tasks.metrics import final_answer, rouge_l_matrix
from tasks.records.example import Answer
from tasks.scoring import DIGITS, Scorer

NAME = "consensus"


class ConsensusSettings(RecipeSection):
    """How alike two answers are."""

    similarity: Literal["embedding", "rouge_l"] = Field(
        "embedding", description="embedding: cosine of sentence embeddings; rouge_l: ROUGE-L F-measure"
    )
    over: Literal["answer", "final"] = Field(
        "answer", description="answer: the whole text (the paper); final: what follows the last line that says Answer:"
    )


def score(questions: Sequence[AnsweredQuestion], settings: ConsensusSettings, scoring: ScoringContext) -> Steps:
    """One judgement for each answer of each question, those without text included."""
    jobs = [_job(question, settings, scoring) for question in questions]
    scores_by_question = yield from compute("embed", jobs)
    judgements = []
    for question, scores in zip(questions, scores_by_question, strict=True):
        remaining = iter(scores)
        evidence = json.dumps({"samples": len(scores), "similarity": settings.similarity}, sort_keys=True)
        for answer in (*question.answers, *question.without_text):
            value = next(remaining) if compared_text(answer, settings) else None
            reason = None if value is not None else no_text_reason(answer) or "empty_answer"
            judgements.append(answer.judged(NAME, value, reason, evidence))
    return judgements


def consensus_scores(texts: Sequence[str], settings: ConsensusSettings, scoring: ScoringContext) -> list[float]:
    """Each text's mean similarity to all of them, itself included; texts must not be empty."""
    if not texts:
        return []
    counts = Counter(texts)
    # Sorted, so that neither the order of the samples nor how often a text occurs changes the last bits.
    distinct = sorted(counts)
    similarity = _similarity(distinct, settings, scoring)
    weights = np.array([counts[text] for text in distinct], np.float64)
    means = similarity @ weights / len(texts)
    scores = {text: round(float(mean), DIGITS) for text, mean in zip(distinct, means, strict=True)}
    return [scores[text] for text in texts]


def compared_text(answer: Answer, settings: ConsensusSettings) -> str:
    """The part of an answer that is compared, stripped."""
    return final_answer(answer.text) if settings.over == "final" else answer.text.strip()


def _job(question: AnsweredQuestion, settings: ConsensusSettings, scoring: ScoringContext) -> Job[list[float]]:
    texts = []
    for answer in question.answers:
        text = compared_text(answer, settings)
        if text:
            texts.append(text)
    identity = [texts, settings.similarity]
    return Job(lambda: consensus_scores(texts, settings, scoring), identity, len(texts), question.example.example_id)


def _similarity(texts: Sequence[str], settings: ConsensusSettings, scoring: ScoringContext) -> NDArray[np.float64]:
    """u of every pair of distinct texts, [n, n]; 1.0 on the diagonal."""
    if len(texts) == 1:
        return np.ones((1, 1))
    if settings.similarity == "rouge_l":
        return rouge_l_matrix(texts)
    vectors = scoring.embedder().embed(texts).astype(np.float64)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, 1.0)  # the length of a float32 vector is 1 only to seven digits
    return similarity


SCORER = Scorer(NAME, ConsensusSettings, score)
