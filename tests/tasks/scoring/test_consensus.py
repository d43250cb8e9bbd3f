"""Consensus scores by hand, at the edges, and as properties."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import RecipeError
from infra.models.embedding.embedder import Embedder, Vectors
from infra.recipe import Embedding
from tasks.judging.similarity import ConsensusSettings
from tasks.records.example import Answer, Context, Example, Judgement
from tasks.scoring import AnsweredQuestion, ScoringContext, consensus
from tests.support.embedders import in_windows
from tests.support.recipes_for_scoring import no_embedder, recipe_with
from tests.support.scripted_judge import judge_with

RECIPE = recipe_with({"scorer": "consensus"})
DIRECTIONS = {"east": (1, 0), "north": (0, 2), "north-east": (3, 4), "west": (-1, 0)}


def directions(texts: list[str]) -> Vectors:
    return np.array([DIRECTIONS[text] for text in texts], np.float32)


def judged(texts: Sequence[str], reasons: Sequence[str] | None = None, **settings: Any) -> list[Judgement]:
    reasons = reasons or ["stop"] * len(texts)
    answers = tuple(
        Answer("e", i, text, reason, 1, 1, "default", "")
        for i, (text, reason) in enumerate(zip(texts, reasons, strict=True))
    )
    case = AnsweredQuestion(Example("e", "q", "c", (), "qa", "en", "{}"), Context("c", "text", 1, (), (), ()), answers)
    bench = ScoringContext(lambda: Embedder(directions), None, RECIPE)
    return judge_with(consensus, [case], ConsensusSettings(**settings), bench)


def scores(texts: Sequence[str], **settings: Any) -> list[float | None]:
    return [each.score for each in judged(texts, **settings)]


def test_the_score_is_the_mean_cosine_with_all_samples_itself_included() -> None:
    # cosines: east·north 0, east·north-east 3/5, north·north-east 4/5
    assert scores(["east", "north", "north-east"]) == [
        pytest.approx((1 + 0 + 0.6) / 3, abs=1e-6),
        pytest.approx((0 + 1 + 0.8) / 3, abs=1e-6),
        pytest.approx((0.6 + 0.8 + 1) / 3, abs=1e-6),
    ]


def test_a_text_counts_as_often_as_it_was_sampled() -> None:
    # east: (1 + 1 + 0 - 1) / 4, north: (0 + 0 + 1 + 0) / 4, west: (-1 - 1 + 0 + 1) / 4
    assert scores(["east", "north", "east", "west"]) == [0.25, 0.25, 0.25, -0.25]


def test_the_score_over_rouge_is_the_mean_f_measure() -> None:
    # LCS of "a b c" and "a b" is 2: F = 4/5; with "d" 0
    texts = ["a b c", "a b", "d"]
    assert scores(texts, similarity="rouge_l") == [
        pytest.approx(1.8 / 3, abs=1e-6),
        pytest.approx(1.8 / 3, abs=1e-6),
        pytest.approx(1 / 3, abs=1e-6),
    ]


@pytest.mark.parametrize(
    ("similarity", "expected"),
    [
        ("rouge_1", [(1 + 4 / 6) / 2, (1 + 4 / 6) / 2]),  # 2 of 3 words and 3 are common
        ("rouge_2", [(1 + 2 / 4) / 2, (1 + 2 / 4) / 2]),  # 1 of 2 runs and 2
        ("rouge_l", [(1 + 4 / 6) / 2, (1 + 4 / 6) / 2]),
    ],
)
def test_every_kind_of_rouge_can_be_chosen(similarity: str, expected: list[float]) -> None:
    assert scores(["a b c", "a b d"], similarity=similarity) == [pytest.approx(value, abs=1e-6) for value in expected]


def test_bertscore_is_a_similarity_too() -> None:
    tokens = {"e": (1, 0), "n": (0, 1)}

    def encode_tokens(texts: list[str]) -> list[Vectors]:
        return [np.array([tokens[token] for token in text.split()], np.float32) for text in texts]

    embedder = Embedder(directions, encode_tokens=encode_tokens)
    answers = tuple(Answer("e", i, text, "stop", 1, 1, "default", "") for i, text in enumerate(["e", "e n", "n", "e"]))
    case = AnsweredQuestion(Example("e", "q", "c", (), "qa", "en", "{}"), Context("c", "text", 1, (), (), ()), answers)
    bench = ScoringContext(lambda: embedder, None, RECIPE)
    judgements = judge_with(consensus, [case], ConsensusSettings(similarity="bertscore"), bench)
    # F1 of "e" and "e n" is 2/3, of "e" and "n" 0
    expected = [(1 + 2 / 3 + 0 + 1) / 4, (2 / 3 + 1 + 2 / 3 + 2 / 3) / 4, (0 + 2 / 3 + 1 + 0) / 4]
    assert [judgement.score for judgement in judgements][:3] == [pytest.approx(value, abs=1e-6) for value in expected]
    assert judgements[3].score == judgements[0].score


def test_scores_are_rounded_to_six_decimals() -> None:
    assert scores(["a b", "a", "c"], similarity="rouge_l")[0] == 0.555556  # (1 + 2/3 + 0) / 3


def test_rouge_asks_for_no_embedding_model() -> None:
    case = AnsweredQuestion(
        Example("e", "q", "c", (), "qa", "en", "{}"),
        Context("c", "text", 1, (), (), ()),
        tuple(Answer("e", i, text, "stop", 1, 1, "default", "") for i, text in enumerate("ab")),
    )
    judge_with(consensus, [case], ConsensusSettings(similarity="rouge_l"), ScoringContext(no_embedder, None, RECIPE))


def test_one_sample_scores_one() -> None:
    assert scores(["east"]) == [1.0]
    assert scores(["!!"], similarity="rouge_l") == [1.0]
    assert judge_with(consensus, [], ConsensusSettings(), ScoringContext(no_embedder, None, RECIPE)) == []


def test_an_answer_without_text_has_no_score_and_is_no_sample() -> None:
    found = judged(["east", "", "  ", "north", ""], ["stop", "stop", "length", "length", "prompt_too_long"])
    assert [each.score for each in found] == [0.5, None, None, 0.5, None]
    assert [each.reason for each in found] == [None, "empty_answer", "empty_answer", None, "prompt_too_long"]
    assert json.loads(found[0].evidence) == {"similarity": "embedding", "samples": 2}


def test_without_any_text_nothing_is_scored() -> None:
    assert [each.reason for each in judged(["", ""], ["timeout", "content_filter"])] == ["timeout", "content_filter"]


def test_over_final_compares_what_follows_the_last_answer_line() -> None:
    texts = ["Long plan.\nAnswer: east", "east", "Answer: no\nAnswer: north", "Plan.\nAnswer:"]
    found = judged(texts, over="final")
    assert [each.score for each in found] == [pytest.approx(2 / 3, abs=1e-6)] * 2 + [
        pytest.approx(1 / 3, abs=1e-6),
        None,
    ]
    assert found[3].reason == "empty_answer"


@pytest.mark.medium
@given(st.lists(st.sampled_from(sorted(DIRECTIONS)), min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_equal_texts_score_the_same_exactly_in_any_order(texts: list[str], random: Any) -> None:
    by_text = {}
    for text, score in zip(texts, scores(texts), strict=True):
        assert by_text.setdefault(text, score) == score
    shuffled = random.sample(texts, len(texts))
    assert scores(shuffled) == [by_text[text] for text in shuffled]


@given(st.lists(st.text(st.sampled_from("ab c"), max_size=6), max_size=6))
def test_over_rouge_every_text_scores_between_its_own_share_and_one(texts: list[str]) -> None:
    found = scores(texts, similarity="rouge_l")
    spoken = sum(bool(text.strip()) for text in texts)
    for text, score in zip(texts, found, strict=True):
        assert (score is None) == (not text.strip())
        assert score is None or round(1 / spoken, 6) <= score <= 1


def test_the_evidence_says_how_long_an_answer_was_and_unknown_answers_stop_the_run() -> None:
    embedder = in_windows()
    case = AnsweredQuestion(
        Example("e", "q", "c", (), "qa", "en", "{}"),
        Context("c", "text", 1, (), (), ()),
        tuple(Answer("e", i, text, "stop", 1, 1, "default", "") for i, text in enumerate(["a " * 12, "a 苏"])),
    )
    scoring = ScoringContext(lambda: embedder, None, RECIPE)
    judgements = judge_with(consensus, [case], ConsensusSettings(), scoring)
    sizes = [json.loads(judgement.evidence)["embedded"] for judgement in judgements]
    assert sizes == [
        {"tokens": 12, "unknown": 0, "windows": 2, "cut": 0},
        {"tokens": 2, "unknown": 1, "windows": 1, "cut": 0},
    ]
    as_before = RECIPE.model_copy(update={"embedding": Embedding(long_texts="cut")})
    judgements = judge_with(consensus, [case], ConsensusSettings(), ScoringContext(lambda: embedder, None, as_before))
    assert json.loads(judgements[0].evidence) == {"samples": 2, "similarity": "embedding"}
    unknown = replace(
        case, answers=tuple(replace(answer, text=f"{answer.sample_index} 杭 苏 a") for answer in case.answers)
    )
    with pytest.raises(RecipeError, match=r"75% of the tokens of the answers are unknown.*embedding\.model"):
        judge_with(consensus, [unknown], ConsensusSettings(), scoring)
