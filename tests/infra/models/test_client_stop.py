"""A client that is stopped sends nothing more, and records what was in flight."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.errors import BusyError, StoppedError
from infra.models.client import Reply
from tests.support.requests import client_of, requests


def test_stopping_ends_the_waiting_calls_with_its_error_and_records_those_in_flight(stub, ledger):
    stub.hold()
    with client_of(ledger, stub, concurrency=2) as client, ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(client.complete, requests(1, 6))
        stub.wait_for(2)
        client.stop(StoppedError("a signal"))
        stub.release()
        with pytest.raises(StoppedError, match="a signal"):
            waiting.result(20)
        client.stop(BusyError("later"))  # the first reason counts
        with pytest.raises(StoppedError, match="a signal"):
            client.complete(requests(1, 6))
        assert stub.requests == len(ledger.entries) == 2


def test_calls_that_were_all_in_flight_come_back_as_if_nothing_had_happened(stub, ledger):
    stub.hold()
    with client_of(ledger, stub) as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.complete, requests(1, 3))
        stub.wait_for(3)
        client.stop(StoppedError("a signal"))
        stub.release()
        assert all(isinstance(outcome, Reply) for outcome in waiting.result(20))


def test_a_call_that_fails_after_the_stop_is_not_sent_again(stub, ledger):
    stub.options.script = ["500"]
    stub.hold()
    with client_of(ledger, stub, backoff_s=60) as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.complete, requests(1, 1))
        stub.wait_for(1)
        client.stop(StoppedError("a signal"))
        stub.release()
        with pytest.raises(StoppedError):
            waiting.result(20)
    assert stub.requests == 1


def test_calls_that_take_longer_than_the_grace_end_with_the_reason_of_the_stop(stub, ledger):
    stub.hold()
    client = client_of(ledger, stub, grace_s=0.2)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.complete, requests(1, 1))
        stub.wait_for(1)
        client.stop(StoppedError("a signal"))
        started = time.monotonic()
        client.close()
        assert time.monotonic() - started < 5
        with pytest.raises(StoppedError):
            waiting.result(20)
    stub.release()
    assert not ledger.entries
