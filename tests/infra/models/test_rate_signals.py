"""What servers say about their rate limits, in headers and in words."""

import pytest

from infra.models.rates.signals import Remaining, is_of_a_minute, read_remaining, stated_wait

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("120ms", 0.12),
        ("2m59.56s", 179.56),
        ("1h2m3s", 3723.0),
        ("12", 12.0),
        ("0.5", 0.5),
        (str(NOW + 30), 30.0),
        (str(int((NOW + 30) * 1000)), 30.0),
        ("2027-01-15T08:00:30Z", 30.0),
        (str(NOW - 30), 0.0),
    ],
)
def test_the_time_of_a_reset_is_read(reset: str, seconds: float) -> None:
    (remaining,) = read_remaining({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": reset}, NOW)
    assert (remaining.what, remaining.amount) == ("requests", 3)
    assert remaining.reset_s == pytest.approx(seconds)


@pytest.mark.parametrize("reset", ["", "soon", "inf", "nan", "-"])
def test_a_reset_that_cannot_be_read_is_none(reset: str) -> None:
    assert read_remaining({"x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}, NOW) == []


def test_the_names_of_several_servers_are_read() -> None:
    headers = {
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1s",
        "ratelimit-remaining": "7",
        "ratelimit-reset": "20",
        "anthropic-ratelimit-tokens-remaining": "many",
        "anthropic-ratelimit-tokens-reset": "2027-01-15T08:00:30Z",
    }
    assert read_remaining(headers, NOW) == [Remaining("tokens", 0, 1.0), Remaining("requests", 7, 20.0)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Rate limit reached for gpt-x. Please try again in 1s.", 1.0),
        ("Limit 3, Used 3. Please try again in 6m0s. Visit our site", 360.0),
        ("Please try again in 120ms.", 0.12),
        ("Please retry after 26 seconds.", 26.0),
        ("Please retry in 34.07s", 34.07),
        ("Requests per minute limit exceeded", None),
        ("too many requests, try again later", None),
    ],
)
def test_a_wait_in_words_is_read(text: str, seconds: float | None) -> None:
    assert stated_wait({}, text, NOW) == (pytest.approx(seconds) if seconds is not None else None)


def test_a_wait_is_that_of_what_is_used_up() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "5",
        "x-ratelimit-reset-requests": "50s",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "4s",
    }
    assert stated_wait(headers, "", NOW) == 4.0


@pytest.mark.parametrize(
    ("text", "of_a_minute"),
    [
        ("Requests per minute limit exceeded", True),
        ("Rate limit exceeded: free-models-per-min", True),
        ("TPM limit reached", True),
        ("60 requests/min", True),
        ("超过每分钟请求数", True),
        ("Rate limit exceeded: free-models-per-day", False),
        ("too many concurrent requests", False),
        ("asked for 429", False),
    ],
)
def test_a_limit_of_a_minute_is_told_from_others(text: str, of_a_minute: bool) -> None:
    assert is_of_a_minute(text) is of_a_minute
