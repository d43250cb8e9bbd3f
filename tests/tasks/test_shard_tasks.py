"""How a shard is cut into micro-batches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.shard import sampled_at_once
from infra.recipe import Execution
from tasks.shard_tasks import MOST_BATCHES, spans


@pytest.mark.parametrize(
    ("planned", "calls"),
    [(10_240, 512), (4096, 256), (768, 48), (40, 16)],
)
def test_a_small_plan_has_smaller_batches_that_still_keep_all_calls_in_flight(planned: int, calls: int) -> None:
    assert sampled_at_once(planned, Execution(batch_calls=512, concurrency=64)) == calls


def test_no_batch_has_more_calls_than_the_recipe_says() -> None:
    assert sampled_at_once(10_240, Execution(batch_calls=8, concurrency=64)) == 8


def test_batches_hold_as_many_examples_as_their_calls_allow() -> None:
    assert spans((0, 10), 8, 32, 10) == [(0, 4), (4, 8), (8, 10)]
    assert spans((4, 10), 8, 16, 10) == [(4, 6), (6, 8), (8, 10)]
    assert spans((0, 3), 100, 32, 3) == [(0, 1), (1, 2), (2, 3)]
    assert spans((0, 3), 0, 32, 3) == [(0, 3)]


@given(st.integers(0, 50), st.integers(1, 3000), st.integers(0, 300), st.integers(1, 4096))
def test_every_example_is_in_one_batch_and_a_shard_has_few_batches(
    start: int, count: int, calls: int, batch: int
) -> None:
    cut = spans((start, start + count), calls, batch, count)
    assert [each for first, stop in cut for each in range(first, stop)] == list(range(start, start + count))
    assert len(cut) <= MOST_BATCHES
