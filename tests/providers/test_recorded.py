"""Refusals that the ledger has, with a client and a server: which calls are made again, and how many."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from flows.bench.stub_server import completion
from infra.errors import ModelError
from infra.ledger import Entry, Ledger
from infra.models.client import Failure, ModelClient, Outcome, Reply
from infra.models.refusals.recorded import CalledModel, RecordedRefusals
from infra.store import open_store
from tests.support.memory_ledger import MemoryLedger
from tests.support.requests import client_of, requests
from tests.support.stub_server import MODEL, StubServer, running_stub

CALLS = requests(4, 4)
FILTERED = "context 3"


@pytest.fixture
def server() -> Iterator[StubServer]:
    with running_stub() as running:
        running.options.prompt_limit, running.options.max_model_len = 5, 512
        yield running


def run(ledger: MemoryLedger | Ledger, server: StubServer, *, retry: bool = False) -> list[Outcome]:
    """The outcomes of all calls, in a run of its own."""
    refusals = RecordedRefusals([CalledModel(MODEL, (server.url,), None, {})], retry=retry)
    with client_of(ledger, server, refusals=refusals, attempts=1) as client:  # type: ignore[arg-type]
        return client.complete(CALLS)


def open_window(server: StubServer) -> None:
    """Start the server anew, as it were, with a longer window."""
    server.options.prompt_limit, server.options.max_model_len = 0, 8192


def reasons(outcomes: list[Outcome]) -> set[str]:
    return {outcome.reason if isinstance(outcome, Failure) else "" for outcome in outcomes}


def test_a_window_that_was_too_small_is_asked_again_when_it_is_longer(server: StubServer) -> None:
    ledger = MemoryLedger()
    assert reasons(run(ledger, server)) == {"prompt_too_long"}
    assert reasons(run(ledger, server)) == {"prompt_too_long"}
    assert (server.requests, server.lists_read) == (16, 2), "a list for each run, and no call again"
    open_window(server)
    assert reasons(run(ledger, server)) == {""}
    assert (server.requests, server.lists_read) == (32, 3)
    assert reasons(run(ledger, server)) == {""}
    assert (server.requests, server.lists_read) == (32, 3), "replies ask for no list"


def test_a_prompt_that_is_too_long_for_the_longer_window_is_asked_once(server: StubServer) -> None:
    ledger = MemoryLedger()
    run(ledger, server)
    server.options.max_model_len = 1024
    for _ in range(3):
        assert reasons(run(ledger, server)) == {"prompt_too_long"}
    assert server.requests == 32


def test_a_content_filter_stays_until_drops_are_retried_and_those_calls_alone_are_made(server: StubServer) -> None:
    ledger = MemoryLedger()
    server.options.prompt_limit, server.options.filter_word = 0, FILTERED
    outcomes = run(ledger, server)
    assert [isinstance(outcome, Reply) for outcome in outcomes] == [True] * 12 + [False] * 4
    server.options.filter_word = ""
    open_window(server)
    assert reasons(run(ledger, server)) == {"", "content_filter"}
    assert server.requests == 16
    assert reasons(run(ledger, server, retry=True)) == {""}
    assert (server.requests, server.paid_twice) == (20, 0)


def test_a_retry_that_ends_in_the_middle_leaves_the_rest_alone_to_be_asked(server: StubServer, tmp_path: Path) -> None:
    ledger = Ledger(open_store(str(tmp_path)))
    run(ledger, server)
    server.options.prompt_limit = 0
    server.options.script = ["ok"] * 6 + ["401"] * 3
    with pytest.raises(ModelError), client_for_retry(ledger, server) as client:
        client.complete(CALLS)
    assert server.answered.total() == 6
    server.options.script = []
    reopened = Ledger(open_store(str(tmp_path)))  # the first one was never closed, as after kill -9
    assert reasons(run(reopened, server, retry=True)) == {""}
    assert (server.answered.total(), server.paid_twice) == (16, 0)
    reopened.compact(all=True)
    entries = Ledger(open_store(str(tmp_path))).lookup([request.key for request in CALLS])
    assert [entry.status for entry in entries.values()] == [200] * 16


def client_for_retry(ledger: Ledger, server: StubServer) -> ModelClient:
    """One call after the other."""
    refusals = RecordedRefusals([CalledModel(MODEL, (server.url,), None, {})], retry=True)
    return client_of(ledger, server, refusals=refusals, attempts=1, concurrency=1)  # type: ignore[arg-type]


class Aborting(StubServer):
    """Cuts every reply short while `aborts`."""

    aborts = True

    def _answer(self, raw: bytes, body: dict[str, Any], content: str) -> web.Response:
        reply = completion(MODEL, "It is", 99, raw, 9)
        if self.aborts:
            reply["choices"][0]["finish_reason"] = "abort"
        return web.json_response(reply)


def test_replies_that_the_server_cut_short_are_asked_again_with_retry_alone(tmp_path: Path) -> None:
    def endings(*, retry: bool = False) -> set[str]:
        with Ledger(open_store(str(tmp_path))) as ledger:
            return {outcome.finish_reason for outcome in run(ledger, server, retry=retry) if isinstance(outcome, Reply)}

    with running_stub(make=Aborting) as server:
        assert isinstance(server, Aborting)
        assert endings() == endings(retry=True) == {"abort"}
        assert server.requests == 32
        server.aborts = False
        assert endings() == {"abort"}
        assert endings(retry=True) == endings(retry=True) == endings() == {"stop"}
        assert server.requests == 48


def test_a_call_that_fails_while_it_is_retried_is_retried_still(server: StubServer) -> None:
    ledger = MemoryLedger()
    run(ledger, server)
    server.options.prompt_limit = 0
    server.options.script = ["500"] * 16
    refusals = RecordedRefusals([CalledModel(MODEL, (server.url,), None, {})], retry=True)
    with client_of(ledger, server, refusals=refusals, attempts=1) as client:
        first, second = client.complete(CALLS), client.complete(CALLS)
    assert reasons(first) == {"server_error"}
    assert reasons(second) == {""}


def test_a_ledger_of_an_earlier_version_is_asked_again_once(server: StubServer) -> None:
    ledger = MemoryLedger()
    body = '{"error":{"message":"This model\'s maximum context length is 5 tokens."}}'
    for request in CALLS:
        ledger.entries[request.key] = Entry(request.key, "sample", MODEL, "main", 400, body, 0, 0, 0.1, 1.7e9)
    for _ in range(2):
        assert reasons(run(ledger, server)) == {"prompt_too_long"}
        assert server.requests == 16
    server.options.max_model_len = None
    for entry in list(ledger.entries.values()):
        ledger.entries[entry.key] = Entry(entry.key, "sample", MODEL, "main", 400, body, 0, 0, 0.1, 1.7e9)
    assert reasons(run(ledger, server)) == {"prompt_too_long"}
    assert server.requests == 16, "a provider that tells no window may be as it was"
