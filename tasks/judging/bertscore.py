"""BERTScore (arXiv 1904.09675): how alike two texts are by their tokens' contextual vectors.

Every token of one text is matched with the token of the other whose vector is nearest by cosine. Recall is the mean
over the one's tokens, precision over the other's, and the score is their F1. No idf weights and no rescaling, which
the paper leaves to the user; the vectors are those of the recipe's embedding model, from its last layer.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from infra.models.embedding.endpoint import Vectors


def bertscore_matrix(texts: Sequence[Vectors]) -> NDArray[np.float64]:
    """F1 of every pair of texts, [n, n], symmetric; a text with itself is 1.0.

    `texts`: for each the vectors of its tokens, [tokens, dimensions], every row of length 1. A text without a token is
    like no other text.
    """
    matrix = np.eye(len(texts))
    for i, first in enumerate(texts):
        for j, second in enumerate(texts[:i]):
            matrix[i, j] = matrix[j, i] = bertscore_f1(first, second)
    return matrix


def bertscore_f1(first: Vectors, second: Vectors) -> float:
    """F1 of two texts by the vectors of their tokens, of length 1 each; symmetric."""
    if not len(first) or not len(second):
        return 0.0
    cosines = first @ second.T
    recall = float(cosines.max(axis=1).mean(dtype=np.float64))
    precision = float(cosines.max(axis=0).mean(dtype=np.float64))
    total = recall + precision
    return 2 * recall * precision / total if total else 0.0
