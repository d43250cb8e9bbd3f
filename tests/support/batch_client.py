"""A process that asks a stub by batches and is killed while it does: python -m tests.support.batch_client URL STORE."""

import sys

from infra.ledger import Ledger
from infra.models.batches.scheduler import Batching
from infra.models.client import ModelClient, Outcome
from infra.recipe import BatchSettings
from infra.store import open_store
from tests.support.requests import requests


def ask(url: str, place: str) -> list[Outcome]:
    """The outcomes of ten requests."""
    store = open_store(place)
    batching = Batching(store, "stub", BatchSettings(gather_s=0.05, poll_s=0.02), print)
    with Ledger(store) as ledger, ModelClient([url], None, ledger, batching=batching, backoff_s=0.01) as client:
        return client.complete(requests(2, 5))


if __name__ == "__main__":
    ask(*sys.argv[1:])
