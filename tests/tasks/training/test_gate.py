"""The gate: what passes is exactly what is trained on, and a bad row stops the run with its name and a remedy."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import TrainingError
from tasks.training.gate import EncodedTree, Lengths, gate
from tests.support.tiny_model import TEMPLATE, pair_row, pair_rows, tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


def test_ids_are_the_chat_templates_and_lengths_are_counted(tokenizer: Any) -> None:
    rows = [pair_row(0, "ab", "xyz", "q"), pair_row(1, "abcd", "x", "yé")]
    trees: list[EncodedTree] = []
    lengths = gate(rows, tokenizer, 100, add=trees.append)
    for row, encoded in zip(rows, trees, strict=True):
        whole = tokenizer.apply_chat_template(row["prompt"] + row["rejected"], tokenize=True, return_dict=False)
        opening = tokenizer.apply_chat_template(
            row["prompt"], tokenize=True, add_generation_prompt=True, return_dict=False
        )
        assert encoded.prompt_ids == opening
        assert encoded.prompt_ids + encoded.answers[1] == whole
        assert encoded.pairs == [(0, 1)]
    # <bos><user>ab<assistant> is 5 tokens, xyz<eos> 4; abcd makes 7, "yé" is 3 bytes and <eos>
    assert lengths == Lengths(2, 7, 4, 11, (5 + 4 + 2) + (7 + 2 + 4), 0, ((16, 2),), 2)


def test_a_row_that_would_be_cut_is_named_with_its_length_and_the_remedy(tokenizer: Any) -> None:
    rows = [pair_row(0, "ab", "xyz", "q"), pair_row(7, "ab" * 20, "xyz", "q"), pair_row(8, "ab" * 10, "xyz", "q")]
    with pytest.raises(TrainingError, match=r"2 of 3 rows.*20 tokens.*example-7 with 47.*max_length to 47") as caught:
        gate(rows, tokenizer, 20)
    assert "contexts.max_tokens" in str(caught.value)
    assert gate(rows, tokenizer, 47).total_max == 47


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (pair_row(3, "ab", " \n", "q"), "example-3: chosen is empty"),
        (pair_row(3, "ab", "q", ""), "example-3: rejected is empty"),
        (pair_row(3, "ab", "q", "q"), "example-3: chosen and rejected are the same"),
    ],
)
def test_empty_and_equal_answers_are_refused(tokenizer: Any, row: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        gate([row], tokenizer, 100)


def test_a_doubled_first_token_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"example-0.*'<bos>' twice"):
        gate([pair_row(0, "ab", "x", "y")], tiny_tokenizer("<bos>" + TEMPLATE), 100)


def test_a_template_that_changes_the_prompt_when_an_answer_follows_is_refused() -> None:
    changing = TEMPLATE.replace("<bos>", "<bos>{{ messages | length }}", 1)
    with pytest.raises(TrainingError, match="renders the prompt differently"):
        gate([pair_row(0, "ab", "x", "y")], tiny_tokenizer(changing), 100)


def test_without_a_template_or_without_rows_there_is_nothing_to_train(tokenizer: Any) -> None:
    with pytest.raises(TrainingError, match="no pair"):
        gate([], tokenizer, 100)
    without_template = tiny_tokenizer()
    without_template.chat_template = None
    with pytest.raises(TrainingError, match="no chat template"):
        gate(pair_rows(1), without_template, 100)


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.tuples(*[st.text(max_size=30)] * 3), min_size=1, max_size=40))
def test_every_row_is_kept_whole_in_its_order_or_the_gate_raises(texts: list[tuple[str, str, str]]) -> None:
    tokenizer = tiny_tokenizer()
    rows = [pair_row(index, *texts_of_row) for index, texts_of_row in enumerate(texts)]
    trees: list[EncodedTree] = []
    try:
        lengths = gate(rows, tokenizer, 500, add=trees.append)
    except TrainingError:
        assert any(not chosen.strip() or not rejected.strip() or chosen == rejected for _, chosen, rejected in texts)
        return
    assert [row.example_id for row in trees] == [row["example_id"] for row in rows]
    assert lengths.rows == len(rows) == sum(count for _, count in lengths.histogram)
    for row, encoded in zip(rows, trees, strict=True):
        text = tokenizer.decode(encoded.answers[0], skip_special_tokens=True)
        assert text == row["chosen"][0]["content"]


def _pairs(index: int, *pairs: tuple[str, str]) -> list[dict[str, Any]]:
    return [pair_row(index, f"question {index}", *pair) for pair in pairs]


def test_pairs_of_one_question_become_one_tree_with_each_answer_once(tokenizer: Any) -> None:
    rows = [*_pairs(0, ("a", "bb"), ("a", "ccc"), ("bb", "ccc")), *_pairs(1, ("a", "bb"))]
    trees: list[EncodedTree] = []
    lengths = gate(rows, tokenizer, 100, add=trees.append)
    first, second = trees
    assert [tokenizer.decode(answer, skip_special_tokens=True) for answer in first.answers] == ["a", "bb", "ccc"]
    assert first.pairs == [(0, 1), (0, 2), (1, 2)]
    assert (second.answers, second.pairs) == (first.answers[:2], [(0, 1)])
    prompt = len(["<bos>", "<user>", "<assistant>"]) + len("question 0")
    assert (lengths.rows, lengths.pairs, lengths.tokens) == (2, 4, 2 * prompt + (2 + 3 + 4) + (2 + 3))
    assert lengths.histogram == ((16, 1), (32, 1))


def test_a_row_drawn_twice_is_two_questions_and_another_prompt_of_the_example_is_another(tokenizer: Any) -> None:
    rows = [*_pairs(0, ("a", "b"), ("a", "b")), pair_row(0, "changed", "a", "c")]
    assert (gate(rows, tokenizer, 100).rows, gate(rows, tokenizer, 100).pairs) == (3, 3)
