"""Servers that end, hang, or cannot be saved while calls are in flight, with a stub in vLLM's place.

Calls have one attempt, so that none of them may be used up by a restart.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from infra.errors import ModelError, ServingError
from infra.models.client import ModelClient, Reply
from infra.models.sending import scheduler
from infra.recipe import Execution, Recipe
from infra.serving import local_http, records, server
from infra.serving.adapters import load_adapter
from infra.serving.checks import free_port
from infra.serving.records import ServerRecord
from infra.serving.servers import restart_counts, restarts_since, serve, serve_recipe, start_servers
from tests.support.memory_ledger import MemoryLedger
from tests.support.planning import small_recipe
from tests.support.requests import client_of, requests
from tests.support.served_model import answered, pids, stub_model
from tests.support.stub_server import running_stub

pytestmark = pytest.mark.medium


def stub_recipe(folder: Path, latency_s: float = 0.0, **serving: Any) -> Recipe:
    """A recipe whose policy is served by the stub of `folder`/stub."""
    return small_recipe(folder).model_copy(update={"policy": stub_model(folder / "stub", latency_s, **serving)})


def wait_for(happened: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@contextmanager
def in_a_thread(work: Callable[[], object]) -> Iterator[None]:
    """Run `work` beside the block; its end is awaited."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join(60)
        assert not thread.is_alive()


def client_for(recipe: Recipe, ledger: MemoryLedger, **settings: Any) -> ModelClient:
    return client_of(ledger, *recipe.policy.endpoints, **({"attempts": 1, "concurrency": 8} | settings))


def kill_after(folder: Path, replies: int, starts: int) -> None:
    """kill -9 the stub's latest process once so many replies were sent and it was started so often."""
    wait_for(lambda: len(answered(folder)) >= replies and len(pids(folder)) >= starts)
    os.kill(pids(folder)[-1], signal.SIGKILL)


def test_a_server_that_is_killed_twice_costs_no_call_and_no_attempt(folder: Path) -> None:
    ledger = MemoryLedger()
    batch = requests(10, 8)
    with serve_recipe(stub_recipe(folder, latency_s=0.05)) as recipe, client_for(recipe, ledger) as client:
        before = restart_counts(recipe)

        def kill_twice() -> None:
            kill_after(folder / "stub", 10, 1)
            kill_after(folder / "stub", 40, 2)

        with in_a_thread(kill_twice):
            outcomes = client.complete(batch)
        counts = client.counts()["sample"]
        assert restarts_since(before, recipe) == {"policy": 2}
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    assert (counts.made, counts.failed) == (len(batch), 0)
    assert len(ledger.entries) == len(batch)
    assert len(pids(folder / "stub")) == 3
    assert len({port for _, port in answered(folder / "stub")}) == 1


def test_the_replies_are_those_of_an_undisturbed_run(folder: Path) -> None:
    texts = []
    for disturbed in (False, True):
        place = folder / str(disturbed)
        place.mkdir()
        kill = partial(kill_after, place / "stub", 5, 1) if disturbed else partial(int)
        with (
            serve_recipe(stub_recipe(place, latency_s=0.05)) as recipe,
            client_for(recipe, MemoryLedger()) as client,
            in_a_thread(kill),
        ):
            texts.append([getattr(outcome, "text", None) for outcome in client.complete(requests(4, 4))])
    assert texts[0] == texts[1]


def test_a_server_that_hangs_is_found_out_although_it_answers_health_checks(folder: Path) -> None:
    stub = folder / "stub"
    with serve_recipe(stub_recipe(folder, hang_timeout_s=2)) as recipe:
        with client_for(recipe, MemoryLedger()) as client:
            (stub / "hang").touch()
            started = time.monotonic()

            def health_is_fine() -> None:
                time.sleep(0.5)
                assert local_http.get(f"{recipe.policy.endpoints[0]}/models", 5)

            with in_a_thread(health_is_fine):
                outcomes = client.complete(requests(2, 2))
            counts = client.counts()["sample"]
        assert all(isinstance(outcome, Reply) for outcome in outcomes)
        assert (counts.made, counts.failed) == (4, 0)
        assert restart_counts(recipe) == {"policy": 1}
        assert time.monotonic() - started >= 1.5
    assert len(pids(stub)) == 2


def test_an_idle_server_is_no_hung_one(folder: Path) -> None:
    with serve_recipe(stub_recipe(folder, hang_timeout_s=1)) as recipe:
        time.sleep(2.5)
        assert restart_counts(recipe) == {"policy": 0}
    assert len(pids(folder / "stub")) == 1


def test_a_server_that_always_ends_is_given_up_with_the_end_of_its_log(folder: Path) -> None:
    stub = folder / "stub"
    with (
        pytest.raises(ServingError, match=r"status 9 while it was needed(.|\n)*3 times already(.|\n)*out of memory"),
        start_servers(stub_recipe(folder)) as servers,
        client_for(servers.wait_until_ready(), MemoryLedger()) as client,
    ):
        (stub / "dies").touch()
        try:
            client.complete(requests(2, 2))
        except ModelError as error:
            assert "the engine is out of memory" in str(error)  # workers in other processes have this message alone
            raise
    assert len(pids(stub)) == 1 + server.MOST_RESTARTS


def test_a_call_that_fails_while_its_server_lives_uses_up_its_attempts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "SETTLE_S", 0.2)
    with (
        serve_recipe(stub_recipe(folder, latency_s=5.0)) as recipe,
        client_for(recipe, MemoryLedger(), timeout_s=0.3, attempts=2) as client,
    ):
        (failure,) = client.complete(requests(1, 1))
        assert getattr(failure, "reason", None) == "timeout"
        assert client.counts()["sample"].retried == 1
    assert len(pids(folder / "stub")) == 1


def test_adapters_are_loaded_again_before_calls_go_to_them(folder: Path) -> None:
    stub, adapter = folder / "stub", folder / "adapter"
    adapter.mkdir()
    with serve_recipe(stub_recipe(folder)) as recipe, client_for(recipe, MemoryLedger()) as client:
        (url,) = recipe.policy.endpoints
        load_adapter(url, "better", adapter)
        os.kill(pids(stub)[-1], signal.SIGKILL)
        outcomes = client.complete(requests(3, 2, model="better"))
        assert all(isinstance(outcome, Reply) for outcome in outcomes)
        models = json.loads(local_http.get(f"{url}/models", 5))["data"]
        assert [model["id"] for model in models] == ["stub", "better"]


def test_an_adapter_that_comes_during_a_restart_waits_for_it(folder: Path) -> None:
    stub, adapter = folder / "stub", folder / "adapter"
    adapter.mkdir()
    with serve_recipe(stub_recipe(folder)) as recipe:
        (url,) = recipe.policy.endpoints
        os.kill(pids(stub)[-1], signal.SIGKILL)
        load_adapter(url, "better", adapter)
        assert b"better" in local_http.get(f"{url}/models", 5)
        (record,) = [records.read_record(url)]
        assert record is not None
        assert (record.state, record.restarts) == ("up", 1)


def test_an_end_in_mid_restart_counts_and_is_started_again(folder: Path) -> None:
    stub = folder / "stub"
    with serve_recipe(stub_recipe(folder)) as recipe:
        (url,) = recipe.policy.endpoints
        os.kill(pids(stub)[-1], signal.SIGKILL)
        wait_for(lambda: len(pids(stub)) == 2)
        os.kill(pids(stub)[-1], signal.SIGKILL)
        wait_for(lambda: restart_counts(recipe) == {"policy": 2})
        wait_for(lambda: (record := records.read_record(url)) is not None and record.state == "up")


def test_nothing_is_left_when_the_block_ends_in_mid_restart(folder: Path) -> None:
    stub = folder / "stub"
    with serve_recipe(stub_recipe(folder)) as recipe:
        (url,) = recipe.policy.endpoints
        os.kill(pids(stub)[-1], signal.SIGKILL)
        wait_for(lambda: len(pids(stub)) == 2)
    assert records.read_record(url) is None
    for pid in pids(stub):
        assert not Path(f"/proc/{pid}").exists()


def test_a_server_of_a_full_model_is_looked_after_too(folder: Path) -> None:
    stub = folder / "stub"
    with serve(stub_model(stub), log=folder / "log", execution=Execution()) as url:
        os.kill(pids(stub)[-1], signal.SIGKILL)
        with client_of(MemoryLedger(), url, attempts=1) as client:
            assert isinstance(client.complete(requests(1, 1))[0], Reply)


def test_calls_wait_until_the_server_is_up_with_its_adapters_although_it_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("infra.models.sending.endpoint.RESTART_POLL_S", 0.02)
    port = free_port()
    records.write_record(ServerRecord(port, "restarting", restarts=1))
    try:
        with client_of(MemoryLedger(), f"http://127.0.0.1:{port}/v1", attempts=1) as client:
            outcomes: list[Any] = []
            with in_a_thread(lambda: outcomes.extend(client.complete(requests(1, 1)))):
                time.sleep(0.2)  # the first call is refused
                with running_stub(port=port) as stub:
                    time.sleep(0.5)
                    assert (stub.requests, outcomes) == (0, [])
                    records.write_record(ServerRecord(port, "up", restarts=1))
                    wait_for(lambda: bool(outcomes))
            assert isinstance(outcomes[0], Reply)
    finally:
        records.remove_record(port)
