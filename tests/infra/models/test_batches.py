"""Calls by batches against a stub of the protocol: gathered, paid once, every outcome in its place."""

import threading

import pytest

from infra.models.batches.records import open_batches
from infra.models.batches.scheduler import Batching
from infra.recipe import BatchSettings
from infra.store import open_store
from tests.support.batch_stub import running_batches
from tests.support.memory_ledger import MemoryLedger
from tests.support.requests import client_of, requests

QUICK = BatchSettings(gather_s=0.05, poll_s=0.02)


@pytest.fixture
def ledger():
    return MemoryLedger()


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "mill"))


def batch_client(stub, ledger, store, said=None, **settings):
    batching = Batching(store, "stub", QUICK, (said if said is not None else []).append)
    return client_of(ledger, stub, batching=batching, **settings)


def test_replies_are_those_of_live_calls_and_the_ledger_has_the_same_keys(ledger, store):
    live = MemoryLedger()
    with running_batches() as stub:
        with client_of(live, stub) as client:
            expected = client.complete(requests(3, 4))
        with batch_client(stub, ledger, store) as client:
            outcomes = client.complete(requests(3, 4))
            counts = client.counts()["sample"]
    assert stub.sizes == [12] and counts.made == 12
    for outcome, other in zip(outcomes, expected, strict=True):
        assert (outcome.key, outcome.text, outcome.finish_reason) == (other.key, other.text, other.finish_reason)
        assert (outcome.prompt_tokens, outcome.completion_tokens) == (other.prompt_tokens, other.completion_tokens)
    assert ledger.entries.keys() == live.entries.keys()
    assert {entry.kind for entry in ledger.entries.values()} == {"sample"}
    assert open_batches(store) == [] and store.list("batches") == []


def test_calls_of_many_threads_make_one_batch(ledger, store):
    with running_batches() as stub, batch_client(stub, ledger, store) as client:
        threads = [threading.Thread(target=client.complete, args=(requests(2, 3, text=str(n)),)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert stub.sizes == [48] and stub.paid_twice == 0
