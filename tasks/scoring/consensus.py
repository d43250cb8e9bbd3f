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
from tasks.metrics import final_answer, rouge_l_matrix
from tasks.records.example import Answer, Judgement
from tasks.scoring import DIGITS, AnsweredQuestion, Scorer, ScoringContext

NAME = "consensus"
SPOKEN = frozenset({"stop", "length"})  # finish reasons of calls that did bring an answer


class ConsensusSettings(RecipeSection):
    """How alike two answers are."""

    similarity: Literal["embedding", "rouge_l"] = Field(
        "embedding", description="embedding: cosine of sentence embeddings; rouge_l: ROUGE-L F-measure"
    )
    over: Literal["answer", "final"] = Field(
        "answer", description="answer: the whole text (the paper); final: what follows the last line that says Answer:"
    )


def judge(cases: Sequence[AnsweredQuestion], settings: ConsensusSettings, bench: ScoringContext) -> list[Judgement]:
    """One judgement for each answer of each case."""
    return [judgement for case in cases for judgement in _judge_case(case, settings, bench)]


def consensus_scores(texts: Sequence[str], settings: ConsensusSettings, bench: ScoringContext) -> list[float]:
    """Each text's mean similarity to all of them, itself included; texts must not be empty."""
    if not texts:
        return []
    counts = Counter(texts)
    # Sorted, so that neither the order of the samples nor how often a text occurs moves the last bits.
    distinct = sorted(counts)
    similarity = _similarity(distinct, settings, bench)
    weights = np.array([counts[text] for text in distinct], np.float64)
    means = similarity @ weights / len(texts)
    scores = {text: round(float(mean), DIGITS) for text, mean in zip(distinct, means, strict=True)}
    return [scores[text] for text in texts]


def _similarity(texts: Sequence[str], settings: ConsensusSettings, bench: ScoringContext) -> NDArray[np.float64]:
    """u of every pair of distinct texts, [n, n]; 1.0 on the diagonal."""
    if len(texts) == 1:
        return np.ones((1, 1))
    if settings.similarity == "rouge_l":
        return rouge_l_matrix(texts)
    vectors = bench.embedder().embed(texts).astype(np.float64)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, 1.0)  # the length of a float32 vector is 1 only to seven digits
    return similarity


def _judge_case(case: AnsweredQuestion, settings: ConsensusSettings, bench: ScoringContext) -> list[Judgement]:
    texts = [_compared(answer, settings) for answer in case.answers]
    samples = [text for text in texts if text]
    scores = iter(consensus_scores(samples, settings, bench))
    evidence = json.dumps({"samples": len(samples), "similarity": settings.similarity}, sort_keys=True)
    return [
        _judgement(answer, next(scores) if text else None, evidence)
        for answer, text in zip(case.answers, texts, strict=True)
    ]


def _compared(answer: Answer, settings: ConsensusSettings) -> str:
    """The part of an answer that is compared, stripped."""
    return final_answer(answer.text) if settings.over == "final" else answer.text.strip()


def _judgement(answer: Answer, score: float | None, evidence: str) -> Judgement:
    reason = None
    if score is None:
        failed = not answer.text.strip() and answer.finish_reason not in SPOKEN
        reason = answer.finish_reason if failed else "empty_answer"
    return Judgement(answer.example_id, answer.sample_index, NAME, score, reason, evidence, ())


SCORER = Scorer(NAME, ConsensusSettings, judge)
