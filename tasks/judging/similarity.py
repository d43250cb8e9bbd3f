"""How alike the answers to a question are: the mean similarity of each text to all of them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from infra.recipe import RecipeSection
from tasks.judging.bertscore import bertscore_matrix
from tasks.judging.context import SCORE_DIGITS, AnsweredQuestion, ScoringContext
from tasks.judging.steps import Job
from tasks.metrics import final_answer, rouge_l_matrix, rouge_n_matrix
from tasks.records.example import Answer

_ROUGE_N = {"rouge_1": 1, "rouge_2": 2}


class ConsensusSettings(RecipeSection):
    """How alike two answers are."""

    similarity: Literal["embedding", "rouge_1", "rouge_2", "rouge_l", "bertscore"] = Field(
        "embedding",
        description="embedding: cosine of sentence embeddings; rouge_1, rouge_2, rouge_l: ROUGE F-measure; bertscore: "
        "BERTScore F1, from the token vectors of a local embedding model",
    )
    over: Literal["answer", "final"] = Field(
        "answer", description="answer: the whole text (the paper); final: what follows the last line that says Answer:"
    )


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
    scores = {text: round(float(mean), SCORE_DIGITS) for text, mean in zip(distinct, means, strict=True)}
    return [scores[text] for text in texts]


def compared_text(answer: Answer, settings: ConsensusSettings) -> str:
    """The part of an answer that is compared, stripped."""
    return final_answer(answer.text) if settings.over == "final" else answer.text.strip()


def uses_embeddings(settings: ConsensusSettings) -> bool:
    """True when the recipe's embedding model says how alike two answers are."""
    return settings.similarity in ("embedding", "bertscore")


def consensus_job(
    question: AnsweredQuestion, settings: ConsensusSettings, scoring: ScoringContext
) -> Job[dict[str, Any]]:
    """The value is {"scores": of each answer with text, "sizes": their `TextSize.to_json`, null where unknown}."""
    texts = []
    for answer in question.answers:
        text = compared_text(answer, settings)
        if text:
            texts.append(text)
    identity = [texts, settings.similarity]

    def run() -> dict[str, Any]:
        return {"scores": consensus_scores(texts, settings, scoring), "sizes": _sizes(texts, settings, scoring)}

    return Job(run, identity, len(texts), question.example.example_id)


def _sizes(texts: Sequence[str], settings: ConsensusSettings, scoring: ScoringContext) -> list[dict[str, int]] | None:
    """The sizes of texts that are embedded. A plan from before windows does not report them."""
    if not uses_embeddings(settings) or scoring.recipe.embedding.long_texts == "cut":
        return None
    sizes = scoring.embedder().sizes(texts)
    return None if sizes is None else [size.to_json() for size in sizes]


def _similarity(texts: Sequence[str], settings: ConsensusSettings, scoring: ScoringContext) -> NDArray[np.float64]:
    """u of every pair of distinct texts, [n, n]; 1.0 on the diagonal."""
    if len(texts) == 1:
        return np.ones((1, 1))
    if settings.similarity == "rouge_l":
        return rouge_l_matrix(texts)
    if settings.similarity in _ROUGE_N:
        return rouge_n_matrix(texts, _ROUGE_N[settings.similarity])
    if settings.similarity == "bertscore":
        return bertscore_matrix(scoring.embedder().embed_tokens(texts))
    vectors = scoring.embedder().embed(texts).astype(np.float64)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, 1.0)  # the length of a float32 vector is 1 only to seven digits
    return similarity
