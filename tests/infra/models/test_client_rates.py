"""The client against servers with a limit of a minute, which lasts half a second here."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from infra.errors import ModelError
from infra.models.client import Reply
from tests.support.memory_ledger import MemoryLedger
from tests.support.requests import client_of, requests
from tests.support.stub_server import StubServer, running_stub

pytestmark = pytest.mark.medium

WINDOW_S = 0.5
LIMIT = 20


@pytest.fixture(autouse=True)
def short_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.models.rates.window.WINDOW_S", WINDOW_S)
    monkeypatch.setattr("infra.models.rates.window._MARGIN_S", 0.02)
    monkeypatch.setattr("infra.models.rates.waits._SHORT_S", 0.0)


@pytest.fixture
def server() -> Iterator[StubServer]:
    with running_stub(per_window=LIMIT, window_s=WINDOW_S) as stub:
        yield stub


def complete(stub: StubServer, waits: list[str], **settings: Any) -> Counter[int]:
    """Complete 80 requests; returns the statuses that the server sent."""
    settings = {"concurrency": 64, "attempts": 2, "waits": lambda kind, text: waits.append(text)} | settings
    with client_of(MemoryLedger(), stub, **settings) as client:
        outcomes = client.complete(requests(20, 4))
        assert all(isinstance(outcome, Reply) for outcome in outcomes)
        counts = client.counts()["sample"]
    assert (counts.made, counts.failed, counts.retried) == (80, 0, 0)  # a wait is no error
    return Counter(entry["status"] for entry in stub.log)


def test_a_limit_of_a_minute_without_a_word_on_when_uses_up_no_attempts(server: StubServer) -> None:
    waits: list[str] = []
    statuses = complete(server, waits)
    assert statuses[200] == 80
    assert statuses[429] <= 64 + 32  # those sent together with the first, then some tries for more
    assert waits[0].startswith("waits ") and "Requests per minute limit exceeded" in waits[0]
    assert waits[-1] == ""  # calls go on


def test_a_bare_429_is_taken_for_a_minute_s_limit_after_some_attempts(server: StubServer) -> None:
    server.options.window_words = "Too many requests"
    with client_of(MemoryLedger(), server, concurrency=8, attempts=6) as client:
        outcomes = client.complete(requests(20, 4))
    assert all(isinstance(outcome, Reply) for outcome in outcomes)


def test_headers_keep_a_client_below_the_limit(server: StubServer) -> None:
    server.options.window_headers = lambda left, seconds: {
        "x-ratelimit-limit-requests": str(LIMIT),
        "x-ratelimit-remaining-requests": str(left),
        "x-ratelimit-reset-requests": f"{seconds + 0.02:.3f}s",
    }
    statuses = complete(server, [], concurrency=16)
    assert statuses[429] <= 2


def test_a_server_that_takes_nothing_ends_the_calls_with_its_words(server: StubServer) -> None:
    server.options.per_window = -1
    server.options.window_words = "Requests per minute: 0 for your plan"
    with (
        client_of(MemoryLedger(), server, concurrency=8, attempts=3) as client,
        pytest.raises(ModelError, match="0 for your plan"),
    ):
        client.complete(requests(4, 4))
    assert server.requests <= 5 * 8
