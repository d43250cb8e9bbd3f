"""Servers that wait for their first call: nothing is started for a run whose replies are all in the ledger."""

from pathlib import Path
from typing import Any

import pytest

from infra.errors import ModelError, ServingError
from infra.recipe import Recipe
from infra.serving import records
from infra.serving.adapters import load_adapter
from infra.serving.servers import start_servers
from tests.support.memory_ledger import MemoryLedger
from tests.support.planning import small_recipe
from tests.support.requests import client_of, requests
from tests.support.served_model import pids, stub_model

pytestmark = pytest.mark.medium


def stub_recipe(folder: Path, **serving: Any) -> Recipe:
    """A recipe whose policy is served by the stub of `folder`/stub."""
    return small_recipe(folder).model_copy(update={"policy": stub_model(folder / "stub", **serving)})


def starts(folder: Path) -> int:
    return len(pids(folder / "stub")) if (folder / "stub" / "pids").exists() else 0


def test_a_server_starts_at_the_first_call_that_is_not_in_the_ledger(folder: Path) -> None:
    ledger = MemoryLedger()
    with start_servers(stub_recipe(folder), waiting=True) as servers:
        recipe = servers.with_endpoints()
        (url,) = recipe.policy.endpoints
        assert (record := records.read_record(url)) is not None
        assert record.state == "waiting"
        with client_of(ledger, url, attempts=1) as client:
            assert starts(folder) == 0
            assert len(client.complete(requests(2, 2))) == 4
        assert starts(folder) == 1
        assert records.read_record(url).state == "up"  # type: ignore[union-attr]
    assert records.read_record(url) is None
    with start_servers(stub_recipe(folder), waiting=True) as servers:
        with client_of(ledger, *servers.with_endpoints().policy.endpoints) as client:
            client.complete(requests(2, 2))
        assert client.counts()["sample"].reused == 4
    assert starts(folder) == 1


def test_two_replicas_that_wait_both_start(folder: Path) -> None:
    with start_servers(stub_recipe(folder, replicas=2), waiting=True) as servers:
        with client_of(MemoryLedger(), *servers.with_endpoints().policy.endpoints, attempts=1) as client:
            client.complete(requests(8, 1))
        servers.wait_until_ready()
        assert starts(folder) == 2


def test_whoever_waits_for_it_and_an_adapter_start_it_too(folder: Path) -> None:
    with start_servers(stub_recipe(folder), waiting=True) as servers:
        (url,) = servers.wait_until_ready().policy.endpoints
        assert records.read_record(url).state == "up"  # type: ignore[union-attr]
    with start_servers(stub_recipe(folder), waiting=True) as servers:
        (url,) = servers.with_endpoints().policy.endpoints
        load_adapter(url, "better", folder)
        assert records.read_record(url).state == "up"  # type: ignore[union-attr]
    assert starts(folder) == 2


def test_a_server_that_cannot_start_when_called_is_named_with_the_end_of_its_log(folder: Path) -> None:
    recipe = stub_recipe(folder)
    (folder / "stub" / "python").write_text("#!/bin/sh\necho no memory for the cache; exit 1\n")
    with (
        pytest.raises(ServingError, match=r"status 1 while it started(.|\n)*no memory for the cache"),
        start_servers(recipe, waiting=True) as servers,
        client_of(MemoryLedger(), *servers.with_endpoints().policy.endpoints, attempts=1) as client,
    ):
        with pytest.raises(ModelError, match="no memory for the cache") as failure:
            client.complete(requests(1, 1))
        raise failure.value
