"""A build on real vLLM, one of whose engines is killed in mid-run: the same manifest, and every call paid once."""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from flows.build import build
from flows.cli.demo import write_demo_questions
from flows.recipes import read_recipe
from infra.recipe import Recipe
from infra.running import progress
from infra.running.progress import ProgressUpdate
from infra.serving.servers import restart_counts, serve_recipe
from infra.store import open_store
from tests.support.command import ROOT, needs_vllm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    needs_vllm,
]

QUESTIONS, SAMPLES = 12, 4
CALLS = QUESTIONS * SAMPLES
REPLICA_LOGS = ("vllm.log", "vllm-2.log")


def small_demo(folder: Path, *more: str) -> Recipe:
    """The demo's recipe with few questions. In float32 a reply does not depend on what is computed beside it."""
    changes = [
        f"store={folder / 'undisturbed'}",
        f"questions.source={folder / 'train' / 'questions.jsonl'}",
        f"contexts.pool={folder / 'train' / 'pool.jsonl'}",
        f"questions.limit={QUESTIONS}",
        f"sampling.samples={SAMPLES}",
        "sampling.greedy=false",
        "execution.concurrency=4",
        "policy.serve.dtype=float32",
        f"policy.serve.python={ROOT / '.venv-serving' / 'bin' / 'python'}",
        "evaluation=null",
        "training=null",
        *more,
    ]
    recipe = read_recipe("demo-sealong", changes)
    write_demo_questions(recipe)
    return recipe


def api_servers() -> list[psutil.Process]:
    """The processes that reply to HTTP requests, below those that supervise them."""
    servers = []
    for process in psutil.Process().children(recursive=True):
        if process.cmdline()[1:2] == [str(ROOT / "infra" / "serving" / "vllm_server.py")]:
            servers.append(process)
    return servers


def busy_engine(recipe: Recipe) -> psutil.Process:
    """The engine of a replica that has replied to calls."""
    for url, name in zip(recipe.policy.endpoints, REPLICA_LOGS, strict=True):
        if has_replied(recipe, name):
            port = url.removesuffix("/v1").rpartition(":")[2]
            (server,) = [process for process in api_servers() if port in process.cmdline()]
            (engine,) = [process for process in server.children() if "EngineCore" in " ".join(process.cmdline())]
            return engine
    raise AssertionError("no replica has replied to a call")


def has_replied(recipe: Recipe, log: str) -> bool:
    return "POST /v1/chat/completions" in (Path(recipe.store) / "logs" / log).read_text()


def kill_when_sampling(after: int, process: Callable[[], psutil.Process]) -> None:
    """kill -9 a process as soon as so many answers have arrived."""
    answers = 0

    def watch(step: ProgressUpdate) -> None:
        nonlocal answers
        if step.stage == "sample":
            before, answers = answers, answers + step.done
            if before < after <= answers:
                process().kill()

    progress.watch(watch)


def wait_for_restart(recipe: Recipe) -> None:
    """The build may end before the other replica's end is noticed."""
    deadline = time.monotonic() + 30
    while restart_counts(recipe) != {"policy": 1}:
        assert time.monotonic() < deadline, restart_counts(recipe)
        time.sleep(0.1)


def test_a_replica_takes_over_when_the_engine_of_the_other_is_killed(folder: Path, prefect: None) -> None:
    """That a server's own process is killed, and twice, is tested with a stub (test_restarts.py)."""
    recipe = small_demo(folder, "policy.serve.replicas=2")
    with serve_recipe(recipe) as served:
        assert len(set(served.policy.endpoints)) == 2
        undisturbed = build(served)
        assert undisturbed["restarts"] == {"policy": 0}
        assert all(has_replied(recipe, name) for name in REPLICA_LOGS)
        kill_when_sampling(CALLS // 3, partial(busy_engine, served))
        try:
            disturbed = build(served.model_copy(update={"store": str(folder / "disturbed")}))
        finally:
            progress.watch(None)
        wait_for_restart(served)
    manifests = []
    for built, store in ((undisturbed, recipe.store), (disturbed, str(folder / "disturbed"))):
        counts = built["calls"]["sample"]
        assert (counts["made"], counts["failed"]) == (CALLS, 0)
        manifests.append(json.loads(open_store(store).read(built["dataset"]["manifest"])))
    assert manifests[0] == manifests[1]
