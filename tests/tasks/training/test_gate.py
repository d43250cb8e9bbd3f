"""The gate: what passes is exactly what is trained on, and a bad row stops the run with its name and a remedy."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
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
    with pytest.raises(TrainingError, match=r"2 of 3 pairs.*20 tokens.*example-7, with 47.*max_length to 47") as caught:
        gate(rows, tokenizer, 20)
    assert "contexts.max_tokens" in str(caught.value)
    assert gate(rows, tokenizer, 47).total_max == 47


def test_pairs_that_are_too_long_are_dropped_and_counted(tokenizer: Any) -> None:
    """Of a question only the pairs that fit pass, with the answers that they need."""
    rows = [
        *_pairs(0, ("a", "b" * 40), ("a", "cc"), ("b" * 40, "cc")),  # "question 0" and the template's marks: 13
        pair_row(1, "x" * 50, "a", "b"),
        *_pairs(2, ("a", "bb"), ("bb", "ccc")),
    ]
    trees: list[EncodedTree] = []
    lengths = gate(rows, tokenizer, 20, add=trees.append, over_length="drop")
    assert [(tree.example_id, tree.pairs) for tree in trees] == [
        ("example-0", [(0, 1)]),
        ("example-2", [(0, 1), (1, 2)]),
    ]
    assert [tokenizer.decode(answer, skip_special_tokens=True) for answer in trees[0].answers] == ["a", "cc"]
    assert (lengths.rows, lengths.pairs) == (2, 3)
    assert (lengths.dropped_questions, lengths.dropped_pairs) == (1, 3)
    assert (lengths.prompt_max, lengths.total_max, lengths.tokens) == (13, 13 + 4, 2 * 13 + (2 + 3) + (2 + 3 + 4))
    with pytest.raises(TrainingError, match=r"3 of 6 pairs .*over_length is stop"):
        gate(rows, tokenizer, 20)


def test_more_than_half_are_not_dropped(tokenizer: Any) -> None:
    rows = [pair_row(0, "ab", "xyz", "q"), pair_row(1, "ab" * 20, "xyz", "q"), pair_row(2, "ab" * 21, "xyz", "q")]
    assert gate(rows[:2], tokenizer, 20, over_length="drop").dropped_pairs == 1
    with pytest.raises(TrainingError, match=r"2 of 3 pairs .*more than half.*example-2, with 49"):
        gate(rows, tokenizer, 20, over_length="drop")


def test_a_pair_of_exactly_the_longest_length_passes(tokenizer: Any) -> None:
    row = pair_row(0, "ab", "xyz", "q")  # 5 tokens, and 4
    assert gate([row], tokenizer, 9).total_max == 9
    with pytest.raises(TrainingError, match="1 of 1 pairs"):
        gate([row], tokenizer, 8, over_length="drop")


def test_lengths_of_long_and_short_rows_are_added_up(tokenizer: Any) -> None:
    long = gate([pair_row(0, "ab", "xyz", "q")], tokenizer, 100)
    short = gate([pair_row(1, "a", "b", "cc"), pair_row(2, "x" * 200, "b", "c")], tokenizer, 100, over_length="drop")
    both = long.with_short(short)
    together = gate([pair_row(0, "ab", "xyz", "q"), pair_row(1, "a", "b", "cc")], tokenizer, 100)
    assert both == replace(together, dropped_pairs=1, dropped_questions=1, dropped_short=1)


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(st.tuples(*[st.text(min_size=1, max_size=12).filter(str.strip)] * 3), min_size=1, max_size=20),
    limit=st.integers(5, 60),
)
@example(texts=[("0", "\U000f0000", "[THINK]")], limit=60)  # a private character beside what is marked by one
def test_every_row_passes_or_is_a_counted_drop(texts: list[tuple[str, str, str]], limit: int) -> None:
    tokenizer = tiny_tokenizer()
    rows = [pair_row(place, *row) for place, row in enumerate(texts) if row[1] != row[2]]
    trees: list[EncodedTree] = []
    try:
        lengths = gate(rows, tokenizer, limit, add=trees.append, over_length="drop")
    except TrainingError as error:
        assert not rows or "more than half" in str(error)
        return
    assert lengths.pairs + lengths.dropped_pairs == len(rows)
    assert lengths.pairs == sum(len(tree.pairs) for tree in trees)
    for tree in trees:
        assert len(tree.prompt_ids) + max(map(len, tree.answers)) <= limit
        assert sorted({place for pair in tree.pairs for place in pair}) == list(range(len(tree.answers)))


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
