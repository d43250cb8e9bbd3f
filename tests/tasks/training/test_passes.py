"""A step's questions come into its passes whole, once, with weights that make the step's loss a mean over questions."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.training.passes import StepCollator
from tests.support.shared_pairs import Shape, tree_rows

pytestmark = pytest.mark.slow  # torch takes seconds to load

ROWS: list[dict[str, Any]] = [
    {"prompt_ids": [1, 2, 3], "answers": [[4], [5, 6], [7]], "pairs": [[0, 1], [2, 1]]},
    {"prompt_ids": [8], "answers": [[9], [10]], "pairs": [[1, 0]]},
]


def _lists(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: values.tolist() for name, values in batch.items()}


def test_two_questions_in_one_pass_by_hand() -> None:
    step = StepCollator(0, 2)(ROWS)
    assert (step["questions"], step["pairs"]) == (2, 3)
    (only,) = step["passes"]
    assert _lists(only) == {
        "input_ids": [[1, 2, 3, 4, 0], [1, 2, 3, 5, 6], [1, 2, 3, 7, 0], [8, 9, 0, 0, 0], [8, 10, 0, 0, 0]],
        "attention_mask": [[1, 1, 1, 1, 0], [1] * 5, [1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 0, 0, 0]],
        "completion_mask": [[0, 0, 0, 1, 0], [0, 0, 0, 1, 1], [0, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 1, 0, 0, 0]],
        "trees": [[3, 3], [1, 2]],
        "pairs": [[0, 1], [2, 1], [4, 3]],
        "weights": [0.25, 0.25, 0.5],
    }


def test_apart_each_pair_is_read_for_itself_and_weighs_the_same() -> None:
    step = StepCollator(0, 2, separate_pairs=True)(ROWS)
    first, second = map(_lists, step["passes"])
    assert first["input_ids"] == [[1, 2, 3, 4, 0], [1, 2, 3, 5, 6], [1, 2, 3, 7, 0], [1, 2, 3, 5, 6]]
    assert (first["trees"], first["pairs"], first["weights"]) == ([[3, 2]] * 2, [[0, 1], [2, 3]], [0.25, 0.25])
    assert (second["input_ids"], second["pairs"], second["weights"]) == ([[8, 10], [8, 9]], [[0, 1]], [0.5])


def test_packing_fills_passes_with_the_longest_first_and_lets_a_longer_question_alone() -> None:
    rows = tree_rows([(size - 3, (1, 1), ((0, 1),)) for size in (4, 9, 5, 12, 6, 4)])  # tokens as they are read
    sizes = [[prompt + 3 for prompt, _ in batch["trees"].tolist()] for batch in StepCollator(0, 1, 10)(rows)["passes"]]
    assert sizes == [[12], [9], [6, 4], [5, 4]]


SHAPES = st.lists(
    st.tuples(st.integers(1, 20), st.lists(st.integers(1, 9), min_size=2, max_size=4).map(tuple)).map(
        lambda shape: (*shape, ((0, 1), (1, 0)))
    ),
    min_size=1,
    max_size=9,
)


@settings(max_examples=80, deadline=None)
@given(shapes=SHAPES, per_pass=st.integers(1, 4), pack=st.none() | st.integers(1, 80), separate=st.booleans())
@pytest.mark.parametrize("processes", [1, 3])
def test_every_pair_is_in_one_pass_of_one_process_and_the_weights_make_one(
    processes: int, shapes: list[Shape], per_pass: int, pack: int | None, separate: bool
) -> None:
    rows = tree_rows(shapes)
    dealt = []
    for process in range(processes):
        collate = StepCollator(0, per_pass, pack, separate, process, processes)
        dealt.append(collate(rows)["passes"])
        assert [_lists(batch) for batch in dealt[-1]] == [_lists(batch) for batch in collate(rows)["passes"]]
    assert len({len(passes) for passes in dealt}) == 1  # processes meet in every pass
    passes: list[Any] = []
    for process_passes in dealt:
        passes += process_passes
    assert sum(float(batch["weights"].sum()) for batch in passes) == pytest.approx(processes, abs=1e-12)
    pairs: Counter[Any] = Counter()
    for batch in passes:
        if not batch["weights"].any():
            continue  # repeated so that all processes have as many
        read = [
            ids[mask.bool()].tolist() for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
        ]
        for chosen, rejected in batch["pairs"].tolist():
            pairs[tuple(read[chosen]), tuple(read[rejected])] += 1
        if pack and len(batch["trees"]) > 1:
            tokens = sum(batch["attention_mask"].sum(1).tolist())
            tokens -= sum((answers - 1) * (prompt - 1) for prompt, answers in batch["trees"].tolist())
            assert tokens <= pack
        elif not pack:
            assert len(batch["trees"]) <= per_pass
    expected: Counter[Any] = Counter()
    for row in rows:
        whole = [tuple(row["prompt_ids"] + answer) for answer in row["answers"]]
        for chosen, rejected in row["pairs"]:
            expected[whole[chosen], whole[rejected]] += 1
    assert pairs == expected
