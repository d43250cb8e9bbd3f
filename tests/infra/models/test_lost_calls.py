"""Calls that fail every time: when they are given up, and what the ledger keeps of them."""

from collections.abc import Iterator

import pytest

from infra.models.client import Failure, ModelClient, Prompt, Reply, Request
from infra.models.refusals.lost_calls import LostCalls
from infra.models.refusals.recorded import RecordedRefusals
from tests.support.memory_ledger import MemoryLedger
from tests.support.stub_server import StubServer, running_stub

BROKEN = "Quisquilia"


def request(content: str, has_alternative: bool = False) -> Request:
    prompt = Prompt(({"role": "user", "content": content},))
    return Request("sample", "stub", "", prompt, {}, 0, "context", has_alternative=has_alternative)


def failure(reason: str = "server_error", permanent: bool = False) -> Failure:
    return Failure("key", reason, "500: words", permanent, "http://127.0.0.1:1/v1")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_call_is_given_up_after_its_rounds_time_and_other_successes() -> None:
    clock = Clock()
    lost = LostCalls(3, least_s=60, least_successes=20, clock=clock)
    one = request("one")
    assert not lost.is_lost(one, failure(), 100)
    clock.now = 61
    assert not lost.is_lost(one, failure(), 120)  # the second round
    assert lost.is_lost(one, failure(), 120)


@pytest.mark.parametrize("seconds, successes", [(59.0, 500), (600.0, 119)])
def test_not_within_a_minute_and_not_while_others_fail_too(seconds: float, successes: int) -> None:
    clock = Clock()
    lost = LostCalls(2, least_s=60, least_successes=20, clock=clock)
    lost.is_lost(request("one"), failure(), 100)
    clock.now = seconds
    assert not lost.is_lost(request("one"), failure(), successes)


def test_a_failure_that_several_threads_waited_for_counts_once() -> None:
    lost = LostCalls(2, least_s=0, least_successes=0)
    shared = failure()
    assert [lost.is_lost(request("one"), shared, 0) for _ in range(5)] == [False] * 5
    assert not lost.is_lost(request("another"), failure(), 0)
    assert lost.is_lost(request("one"), failure(), 0)


def test_what_says_nothing_of_the_prompt_is_never_given_up() -> None:
    lost = LostCalls(1, at_once=True)
    assert lost.is_lost(request("one"), failure("timeout"), 0)
    assert not lost.is_lost(request("one"), failure("busy"), 0)
    assert not lost.is_lost(request("one", has_alternative=True), failure(), 0)
    assert not lost.is_lost(request("one"), failure("content_filter", permanent=True), 0)


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with running_stub(broken_word=BROKEN) as server:
        yield server


def test_a_call_that_is_given_up_is_recorded_and_made_again_when_a_person_says_so(stub: StubServer) -> None:
    ledger = MemoryLedger()
    requests = [request("fine"), request(f"with {BROKEN}")]
    with ModelClient([stub.url], None, ledger, attempts=2, backoff_s=0, lost=LostCalls(1, at_once=True)) as client:
        reply, lost = client.complete(requests)
    assert isinstance(reply, Reply) and isinstance(lost, Failure)
    assert (lost.reason, lost.permanent) == ("failed", True)
    assert "EngineCore encountered an issue" in lost.detail
    assert stub.requests == 1 + 2
    with ModelClient([stub.url], None, ledger, attempts=2) as client:
        assert client.complete(requests)[1] == lost
    assert stub.requests == 3
    stub.options.broken_word = ""
    with ModelClient([stub.url], None, ledger, refusals=RecordedRefusals(retry=True)) as client:
        assert all(isinstance(outcome, Reply) for outcome in client.complete(requests))
    assert stub.requests == 4


def test_without_leave_to_give_up_a_failed_call_names_its_endpoint(stub: StubServer) -> None:
    ledger = MemoryLedger()
    with ModelClient([stub.url], None, ledger, attempts=1) as client:
        outcome = client.complete([request(BROKEN)])[0]
    assert outcome == Failure(request(BROKEN).key, "server_error", outcome.detail, False, stub.url)  # type: ignore[union-attr]
    assert not ledger.entries
