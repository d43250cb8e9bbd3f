"""Metrics: golden cases worked out by hand, guards, and properties against independent implementations."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from tasks.metrics import (
    example_sub_em,
    final_answer,
    likeness,
    rouge_l,
    rouge_l_matrix,
    rouge_l_of,
    rouge_n_matrix,
    rouge_n_of,
    rouge_tokens,
    token_f1,
    whole_references,
)
from tasks.records.example import Example
from tasks.sub_em import normalised, sub_em

WORDS = st.lists(st.sampled_from(["red", "green", "blue", "one", "two"]), max_size=12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Quick, brown fox!", "quick brown fox"),
        ("A U.S. state", "us state"),
        ("an apple a day; the end", "apple day end"),
        ("«Ça» — c’est l’été…", "ça cest lété"),
        ("２０２０年", "2020 年"),
        ("北京，中国。", "北 京 中 国"),
        ("The", ""),
        ("?!", ""),
        ("", ""),
    ],
)
def test_normalisation_is_squads_with_unicode_punctuation_and_characters_of_chinese(text: str, expected: str) -> None:
    assert normalised(text) == expected


@pytest.mark.parametrize(
    ("prediction", "references", "expected"),
    [
        ("It was Paris, France.", ["paris"], 1.0),
        ("It was Paris, France.", ["London", "the Paris"], 1.0),
        ("It was Rome.", ["paris"], 0.0),
        ("I know it", ["no"], 0.0),
        ("No, it is not", ["no"], 1.0),
        ("15", ["5"], 0.0),
        ("lived 1990–1995", ["1995"], 1.0),
        ("the U.S. Army", ["US"], 1.0),
        ("Paris(France)", ["Paris"], 1.0),
        ("答案是北京市。", ["北京"], 1.0),
        ("在2008年举行", ["2008"], 1.0),
        ("在12008年举行", ["2008"], 0.0),
        ("上海", ["北京"], 0.0),
        ("", ["paris"], 0.0),
        ("anything", ["The"], None),
        ("anything", ["?!", ""], None),
        ("anything", [], None),
        ("the band played", ["The", "band"], 1.0),
    ],
)
def test_sub_em_finds_a_reference_between_word_edges(
    prediction: str, references: list[str], expected: float | None
) -> None:
    assert sub_em(prediction, references) == expected


@pytest.mark.parametrize(
    ("prediction", "references", "expected"),
    [
        ("the red fox", ["red dog"], 0.5),  # 1 common, P = 1/2, R = 1/2
        ("red red fox", ["red dog dog dog"], 2 / 7),  # P = 1/3, R = 1/4
        ("red fox", ["dog", "fox red"], 1.0),
        ("北京市", ["北京"], 0.8),  # 2 common characters of 3 and 2
        ("", ["fox"], 0.0),
        ("fox", ["the"], None),
    ],
)
def test_token_f1_is_the_harmonic_mean_of_bag_precision_and_recall(
    prediction: str, references: list[str], expected: float | None
) -> None:
    assert token_f1(prediction, references) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prediction", "references", "expected"),
    [
        ("police killed the gunman", ["police kill the gunman"], 0.75),  # police the gunman: 3 of 4 and 4
        ("the gunman kill police", ["police kill the gunman"], 0.5),  # the gunman
        ("a b c d e", ["b d"], 4 / 7),
        ("我爱北京", ["我在北京"], 0.75),
        ("x", ["!!"], None),
        ("", ["x"], 0.0),
    ],
)
def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence(
    prediction: str, references: list[str], expected: float | None
) -> None:
    assert rouge_l(prediction, references) == pytest.approx(expected)


@given(st.text(st.characters(codec="ascii"), max_size=60), st.text(st.characters(codec="ascii"), max_size=60))
def test_rouge_l_equals_the_rouge_score_library_on_ascii(first: str, second: str) -> None:
    expected = RougeScorer(["rougeL"]).score(second, first)["rougeL"].fmeasure
    assert rouge_l_of(rouge_tokens(first), rouge_tokens(second)) == pytest.approx(expected)


@pytest.mark.parametrize("n", [1, 2])
@given(WORDS.map(" ".join), WORDS.map(" ".join))
def test_rouge_n_equals_the_rouge_score_library_on_ascii(n: int, first: str, second: str) -> None:
    name = f"rouge{n}"
    expected = RougeScorer([name]).score(second, first)[name].fmeasure
    assert rouge_n_of(rouge_tokens(first), rouge_tokens(second), n) == pytest.approx(expected)


def test_rouge_counts_the_characters_of_chinese() -> None:
    # Of 7 and 5 characters 4 are common (答 案 是 州), of 6 and 4 runs of two 2.
    first, second = rouge_tokens("最终答案是杭州。"), rouge_tokens("答案是苏州")
    assert rouge_n_of(first, second, 1) == pytest.approx(2 * 4 / (7 + 5))
    assert rouge_n_of(first, second, 2) == pytest.approx(2 * 2 / (6 + 4))
    assert rouge_l_of(first, second) == pytest.approx(2 * 4 / (7 + 5))
    matrix = rouge_n_matrix(["最终答案是杭州。", "答案是苏州", "杭"], 2)
    assert matrix.tolist() == [[1, 0.4, 0], [0.4, 1, 0], [0, 0, 1]]  # one character has no run of two, and is itself


@given(st.lists(WORDS.map(" ".join), max_size=5))
def test_the_matrix_is_symmetric_and_holds_each_pairs_rouge(texts: list[str]) -> None:
    matrix = rouge_l_matrix(texts)
    assert matrix.tolist() == matrix.T.tolist()
    for i, first in enumerate(texts):
        assert matrix[i, i] == 1.0
        for j, second in enumerate(texts[:i]):
            assert matrix[i, j] == rouge_l_of(rouge_tokens(second), rouge_tokens(first))


def test_a_question_with_32_long_answers_is_compared_in_under_two_seconds() -> None:
    texts = [" ".join(str((i * 7919 + j * j) % 400) for j in range(1024)) for i in range(32)]
    clock = time.process_time()
    rouge_l_matrix(texts)
    assert time.process_time() - clock < 2


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("red fox", "red dog", 0.5),
        ("red  fox\n", "red fox", 1.0),
        ("!!", "!!", 1.0),
        ("!!", "??", 0.0),
        ("fox red", "red fox", 1.0),
    ],
)
def test_likeness_is_the_share_of_common_words(first: str, second: str, expected: float) -> None:
    assert likeness(first, second) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Plan.\nAnswer: Rome\nNo wait.\nAnswer: Paris", "Paris"),
        ("Plan.\n**Answer:** Paris", "Paris"),
        ("步骤。\n答案：北京", "北京"),
        ("My answer: Paris", "My answer: Paris"),
        (" Paris ", "Paris"),
        ("Answer:", ""),
    ],
)
def test_the_final_answer_follows_the_last_answer_line(text: str, expected: str) -> None:
    assert final_answer(text) == expected


def _example(kind: str, *references: str) -> Example:
    return Example("e", "q", "c", references, kind, "en", "{}")


def test_a_list_question_wants_every_item_and_others_any_reference() -> None:
    both, one = "Answer: Fenvira and Kelrissa", "Answer: Fenvira"
    assert example_sub_em(both, _example("list", "Fenvira", "Kelrissa")) == 1.0
    assert example_sub_em(one, _example("list", "Fenvira", "Kelrissa")) == 0.0
    assert example_sub_em(one, _example("two-hop", "Fenvira", "Kelrissa")) == 1.0
    assert example_sub_em(one, _example("list", "The")) is None


def test_the_items_of_a_list_are_one_reference_for_overlap() -> None:
    assert whole_references(_example("list", "a b", "c")) == ("a b, c",)
    assert whole_references(_example("one-hop", "a b", "c")) == ("a b", "c")
    assert whole_references(_example("list")) == ()
