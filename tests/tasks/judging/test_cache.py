"""A memo makes each value once, whoever asks, and does not grow."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.judging.cache import SharedCache


def test_threads_that_ask_at_once_share_one_making() -> None:
    memo, made, together = SharedCache(), [], threading.Barrier(8)

    def make() -> str:
        made.append("once")
        return "value"

    def ask(_: int) -> str:
        together.wait()
        return memo.get("key", make)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == ["value"] * 8
    assert made == ["once"]


def test_the_least_recently_used_value_goes_first() -> None:
    memo, made = SharedCache(limit=2), []

    def get(key: str) -> str:
        return memo.get(key, lambda: made.append(key) or key)

    for key in "ab", "a", "c", "a", "ab":
        get(key)
    assert made == ["ab", "a", "c", "ab"]


def test_a_failure_passes_through_and_the_next_one_tries_again() -> None:
    memo = SharedCache()
    with pytest.raises(ZeroDivisionError):
        memo.get("key", lambda: 1 // 0)
    assert memo.get("key", lambda: 2) == 2
