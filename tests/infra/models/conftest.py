"""A stub server and an empty ledger in memory, for tests of the model client."""

from collections.abc import Iterator

import pytest

from tests.support.memory_ledger import MemoryLedger
from tests.support.stub_server import StubServer, running_stub


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with running_stub() as running:
        yield running


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()
