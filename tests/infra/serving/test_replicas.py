"""Several servers for one model: each with its own GPUs or cores, contexts on one of them, restarts one by one."""

import contextlib
import json
import os
import signal
import socket
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from infra.errors import PrerequisiteError, RecipeError
from infra.models.client import Reply
from infra.recipe import Model, Recipe
from infra.serving import hardware, records, shares
from infra.serving.servers import restart_counts, serve_recipe
from infra.serving.shares import Share, shares_of_servers
from tasks.resources import open_resources
from tests.infra.serving.test_restarts import client_for, in_a_thread, kill_after, stub_recipe, wait_for
from tests.support.memory_ledger import MemoryLedger
from tests.support.planning import small_recipe
from tests.support.requests import requests
from tests.support.served_model import answered, pids


def starts(folder: Path) -> dict[int, dict[str, Any]]:
    """Arguments and environment of each replica, by port."""
    replicas = {}
    for path in (folder / "stub").glob("arguments-*.json"):
        replicas[int(path.stem.partition("-")[2])] = json.loads(path.read_text())
    return replicas


def contexts_by_port(folder: Path) -> dict[int, set[str]]:
    """The requests that each replica has answered."""
    contexts = defaultdict(set)
    for request, port in answered(folder / "stub"):
        contexts[port].add(request)
    return contexts


def all_up(recipe: Recipe) -> bool:
    servers = [records.read_record(url) for url in recipe.policy.endpoints]
    return all(record is not None and record.state == "up" for record in servers)


@pytest.mark.medium
def test_two_replicas_share_the_contexts_and_have_logs_of_their_own(folder: Path) -> None:
    with serve_recipe(stub_recipe(folder, replicas=2)) as recipe, client_for(recipe, MemoryLedger()) as client:
        assert len(set(recipe.policy.endpoints)) == 2
        outcomes = client.complete(requests(24, 2))
        assert all(isinstance(outcome, Reply) for outcome in outcomes)
        assert {path.name for path in (folder / "mill" / "logs").iterdir()} == {"vllm.log", "vllm-2.log"}
    by_port = contexts_by_port(folder)
    assert {f"http://127.0.0.1:{port}/v1" for port in by_port} == set(recipe.policy.endpoints)
    assert all(len(answers) % 2 == 0 for answers in by_port.values())  # both calls of a context went to one replica


def two_free_ports() -> int:
    """The first of two neighbours that are free, below the ports that the system gives away by itself."""
    for port in range(20_000 + os.getpid() % 5000 * 2, 32_000, 2):
        with contextlib.suppress(OSError), socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 1))
            return port
    raise AssertionError("no two free ports")


@pytest.mark.medium
def test_ports_of_replicas_follow_each_other(folder: Path) -> None:
    port = two_free_ports()
    with serve_recipe(stub_recipe(folder, replicas=2, port=port)) as recipe:
        assert list(recipe.policy.endpoints) == [f"http://127.0.0.1:{port + number}/v1" for number in (0, 1)]


@pytest.mark.medium
def test_contexts_of_a_replica_that_is_killed_go_to_the_other_and_come_back(folder: Path) -> None:
    stub = folder / "stub"
    with (
        serve_recipe(stub_recipe(folder, latency_s=0.05, replicas=2)) as recipe,
        client_for(recipe, MemoryLedger()) as client,
    ):
        with in_a_thread(lambda: kill_after(stub, 10, 2)):
            outcomes = client.complete(requests(16, 4))
        assert all(isinstance(outcome, Reply) for outcome in outcomes)
        assert client.counts()["sample"].made == 64
        wait_for(lambda: all_up(recipe))
        assert restart_counts(recipe) == {"policy": 1}
        assert len(pids(stub)) == 3
        before = contexts_by_port(folder)
        for number in range(1000):  # until the client has looked at the restarted replica again
            client.complete(requests(24, 1, text=f"later {number}"))
            after = contexts_by_port(folder)
            if len(after) == 2 and all(len(after[port]) > len(before.get(port, ())) for port in after):
                break
        else:
            pytest.fail("no context came back")
        assert len(after) == 2


@pytest.mark.medium
def test_a_replica_that_is_given_up_leaves_the_work_to_the_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.serving.server.MOST_RESTARTS", 0)
    stub = folder / "stub"
    with serve_recipe(stub_recipe(folder, replicas=2)) as recipe, client_for(recipe, MemoryLedger()) as client:
        os.kill(pids(stub)[0], signal.SIGKILL)
        outcomes = client.complete(requests(16, 2))
        assert all(isinstance(outcome, Reply) for outcome in outcomes)
        assert len(pids(stub)) == 2
    assert len(contexts_by_port(folder)) <= 2


@pytest.mark.medium
def test_limits_of_calls_are_for_each_replica(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    concurrencies = []
    monkeypatch.setattr(
        "tasks.resources.ModelClient",
        lambda *_, concurrency, contexts_in_flight, **__: concurrencies.append((concurrency, contexts_in_flight)),
    )
    with serve_recipe(stub_recipe(folder, replicas=2)) as recipe:
        try:
            with open_resources(recipe):
                pass
        except AttributeError:  # there are no clients to close
            pass
    assert concurrencies == [(2 * recipe.execution.concurrency, 2 * recipe.execution.contexts_in_flight)]


def pretend_gpus(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.setattr(hardware, "has_gpu", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


@pytest.mark.medium
def test_replicas_see_gpus_of_their_own_among_those_that_the_run_may_see(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpus(monkeypatch, "4,5,6,7")
    with serve_recipe(stub_recipe(folder, replicas=2, gpus_each=2)):
        replicas = list(starts(folder).values())
    visible = sorted(replica["environment"]["CUDA_VISIBLE_DEVICES"] for replica in replicas)
    assert visible == ["4,5", "6,7"]
    for replica in replicas:
        assert "--tensor-parallel-size 2" in " ".join(replica["argv"])
        assert "--no-enable-chunked-prefill" not in replica["argv"]


def models(folder: Path, policy: dict[str, Any], judge: dict[str, Any] | None = None) -> dict[str, Model]:
    serve = {"model_path": "microworld"}
    sections: dict[str, Any] = {"policy": {"endpoints": [], "serve": serve | policy}}
    if judge is not None:
        sections["judge"] = {"name": "critic", "tokenizer": "microworld", "serve": serve | judge}
    return small_recipe(folder, **sections).models()


def gpus_of(shares_by_section: dict[str, list[Share]]) -> dict[str, list[tuple[str, ...] | None]]:
    gpus = {}
    for section, shares_of_section in shares_by_section.items():
        gpus[section] = [share.gpu.gpus if share.gpu else None for share in shares_of_section]
    return gpus


def test_gpus_are_given_to_policy_and_judge_without_a_word(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, "0,1,2,3")
    alone = shares_of_servers(models(folder, {}))
    assert gpus_of(alone) == {"policy": [None]}  # one server sees all GPUs, as ever
    assert gpus_of(shares_of_servers(models(folder, {}, {}))) == {"policy": [("0",)], "judge": [("1",)]}
    spread = shares_of_servers(models(folder, {"tensor_parallel_size": 2}, {"replicas": 2}))
    assert gpus_of(spread) == {"policy": [("0", "1")], "judge": [("2",), ("3",)]}
    by_hand = shares_of_servers(models(folder, {"arguments": ["--tensor-parallel-size", "4"]}, {}))
    assert gpus_of(by_hand) == {"policy": [None], "judge": [None]}


def test_policy_and_judge_on_one_gpu_halve_its_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, "0")
    for section_shares in shares_of_servers(models(folder, {}, {})).values():
        (share,) = section_shares
        assert share.gpu is not None
        assert (share.gpu.gpus, share.gpu.servers) == (("0",), 2)


def test_replicas_that_lack_gpus_are_refused_with_the_numbers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, "0,1")
    with pytest.raises(PrerequisiteError, match=r"policy need 4 GPUs .* and 2 can be seen \(0,1\)"):
        shares_of_servers(models(folder, {"replicas": 2, "gpus_each": 2}))
    with pytest.raises(PrerequisiteError, match=r"policy need 3 GPUs"):
        shares_of_servers(models(folder, {"replicas": 3}))


def test_replicas_on_a_cpu_have_cores_of_their_own() -> None:
    assert shares.share_cores(2, [0, 1, 2, 3]) == ["0,1", "2,3"]
    assert shares.share_cores(2, [3, 5, 7]) == ["3", "5"]
    assert shares.share_cores(3, [0, 1]) is None


def test_more_gpus_for_the_model_than_a_replica_has_are_an_error(folder: Path) -> None:
    with pytest.raises(RecipeError, match="tensor_parallel_size is 4, more than gpus_each = 2"):
        models(folder, {"gpus_each": 2, "tensor_parallel_size": 4})


def test_ports_that_replicas_would_share_with_the_judge_are_refused(folder: Path) -> None:
    recipe: Recipe = small_recipe(
        folder,
        policy={"endpoints": [], "serve": {"model_path": "microworld", "port": 8100, "replicas": 3}},
        judge={"name": "critic", "tokenizer": "microworld", "serve": {"model_path": "microworld", "port": 8102}},
    )
    with pytest.raises(PrerequisiteError, match=r"policy\.serve and judge\.serve are both to listen on port 8102"):
        serve_recipe(recipe).__enter__()
