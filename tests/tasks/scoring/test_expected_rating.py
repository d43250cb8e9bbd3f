"""The expected rating by hand, and whatever a server may put in the place of logprobs."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.judging.rating import read_expected
from tasks.judging.replies import Unusable


def body(listed: list[tuple[str, Any]], drawn: tuple[str, Any] | None = None) -> str:
    token, logprob = drawn or listed[0]
    top = [{"token": each, "logprob": value} for each, value in listed]
    place = {"token": token, "logprob": logprob, "top_logprobs": top}
    return json.dumps({"choices": [{"message": {"content": token}, "logprobs": {"content": [place]}}]})


def logs(*shares: tuple[str, float]) -> list[tuple[str, float]]:
    return [(token, math.log(share)) for token, share in shares]


def test_the_mean_is_taken_over_the_digits_alone_and_stretched_to_ten() -> None:
    # 10/9 · (0.6·7 + 0.2·9) / 0.8 = 10/9 · 7.5
    assert read_expected(body(logs(("7", 0.6), ("9", 0.2), ("Seven", 0.2)))) == 8.333333
    assert read_expected(body(logs(("0", 1.0)))) == 0.0
    assert read_expected(body(logs(("9", 1.0)))) == 10.0


def test_a_digit_counts_with_the_blanks_that_tokenizers_put_before_it() -> None:
    # 10/9 · (0.25·4 + 0.25·4 + 0.5·8) = 10/9 · 6
    assert read_expected(body(logs((" 4", 0.25), ("▁4", 0.25), ("Ġ8", 0.5)))) == 6.666667


def test_numbers_of_more_digits_and_digits_of_other_scripts_are_no_ratings() -> None:
    # 10/9 · 9 would be right without the others
    assert read_expected(body(logs(("9", 0.6), ("10", 0.2), ("٣", 0.1), ("-1", 0.1)))) == 10.0


def test_less_than_half_on_digits_is_no_rating() -> None:
    assert read_expected(body(logs(("5", 0.5000001), ("The", 0.4999999)))) == 5.555556
    with pytest.raises(Unusable, match="off_scale"):
        read_expected(body(logs(("5", 0.49), ("The", 0.51))))


def test_the_token_that_was_drawn_counts_once_whether_it_is_listed_or_not() -> None:
    assert read_expected(body(logs(("9", 0.3), ("The", 0.1)), ("0", math.log(0.3)))) == 5.0
    assert read_expected(body(logs(("9", 0.3), ("0", 0.3)), ("0", math.log(0.3)))) == 5.0


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "[]",
        "{}",
        '{"choices": []}',
        '{"choices": [{"logprobs": null}]}',
        '{"choices": [{"logprobs": {"content": []}}]}',
        '{"choices": [{"logprobs": {"content": null}}]}',
        '{"choices": [{"logprobs": {"content": [{"token": "7", "logprob": 0}]}}]}',
        '{"choices": [{"logprobs": {"content": [{"token": "7", "top_logprobs": null}]}}]}',
        body([("7", None)]),
        body([("7", "often")]),
        body([("7", math.nan)]),
    ],
)
def test_a_reply_without_logprobs_that_can_be_read_is_unusable(raw: str) -> None:
    with pytest.raises(Unusable, match="no_logprobs"):
        read_expected(raw)


@pytest.mark.parametrize("logprob", [1e9, math.inf])
def test_a_probability_is_never_above_one(logprob: float) -> None:
    assert read_expected(body([("9", logprob), ("0", 0.0)])) == 5.0


@given(st.lists(st.tuples(st.sampled_from([*"0123456789", "x", ""]), st.floats(-30, 1)), min_size=1, max_size=20))
def test_an_expected_rating_stays_between_its_digits(listed: list[tuple[str, float]]) -> None:
    digits = [int(token) for token, _ in listed if token.isdigit()]
    try:
        rating = read_expected(body(listed))
    except Unusable as fault:
        assert fault.reason == "off_scale"
    else:
        assert 10 / 9 * min(digits) - 1e-6 <= rating <= 10 / 9 * max(digits) + 1e-6
