"""The deployed life: `longmill deploy` on a real server, flow runs on a real worker, training asked for once."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.errors import BudgetReached, LongmillError
from infra.store import open_store
from tests.support.deployed import ROOT, deploy, recipe_file, run_on_worker, running_worker, runs_of
from tests.support.stub_server import StubServer, running_stub

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect")]


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with running_stub() as server:
        yield server


@pytest.fixture(scope="module")
def deployed(prefect: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every deployment by its name, made from a folder that is not the checkout."""
    from prefect.client.orchestration import get_client

    from flows.deployments import deployments

    deploy(tmp_path_factory.mktemp("elsewhere"))
    with get_client(sync_client=True) as client:
        names = [deployment.full_name for deployment in deployments()]
        return {name: client.read_deployment_by_name(name) for name in names}


@pytest.fixture
def worker(deployed: dict[str, Any], tmp_path: Path) -> Iterator[None]:
    with running_worker(tmp_path):
        yield


def training_runs(built: dict[str, Any]) -> list[Any]:
    """The training runs for the manifest of a build. A dataset's name is its content, so the store tells them."""
    return [run for run in runs_of("train") if run.parameters["manifest"] == built["dataset"]["manifest"]]


def test_deployments_name_no_folder_and_no_schedule_is_on(deployed: dict[str, Any]) -> None:
    assert len(deployed) == 10
    for name, deployment in deployed.items():
        assert deployment.work_pool_name == "longmill", name
        assert deployment.description, name
        assert str(ROOT) not in deployment.model_dump_json(), name
        assert deployment.entrypoint.startswith("flows."), name
        assert not any(each.active for each in deployment.schedules), name
    scheduled = {name for name, deployment in deployed.items() if deployment.schedules}
    assert scheduled == {"nightly/longmill-nightly", "maintain/longmill-maintain"}
    queues = {name: deployment.work_queue_name for name, deployment in deployed.items()}
    assert {name for name, queue in queues.items() if queue == "train"} == {
        "train/longmill-train",
        "evaluate-recipe/longmill-evaluate",
    }
    assert deployed["nightly/longmill-nightly"].global_concurrency_limit.limit == 1
    assert deployed["train/longmill-train"].global_concurrency_limit.limit == 1
    assert deployed["shard/longmill-shard"].global_concurrency_limit is None


def test_what_a_person_starts_takes_plain_values_with_defaults(deployed: dict[str, Any]) -> None:
    internal = {"shard/longmill-shard", "plan-ranges/longmill-plan", "train/longmill-train"}
    for name in deployed.keys() - internal:
        schema, given = deployed[name].parameter_openapi_schema, deployed[name].parameters
        for key, value in schema["properties"].items():
            assert value["type"] in ("string", "integer", "number", "boolean", "array"), (name, key)
        missing = set(schema.get("required", [])) - given.keys()
        assert missing == ({"plan_id"} if name == "rerun/longmill-rerun" else set()), name


def test_recipes_that_deployments_name_can_be_read(deployed: dict[str, Any]) -> None:
    from flows.recipes import read_recipe

    named = {each.parameters["recipe"] for each in deployed.values() if "recipe" in each.parameters}
    assert named
    for recipe in named:
        read_recipe(recipe)


@pytest.mark.usefixtures("worker")
def test_a_night_on_workers_publishes_once_and_asks_for_training_once(folder: Path, stub: StubServer) -> None:
    from flows.maintain import maintain
    from flows.nightly import nightly

    recipe, path = recipe_file(folder, stub, execution={"shard_deployment": "shard/longmill-shard"})
    before = len(runs_of("shard"))
    run = run_on_worker("nightly/longmill-nightly", recipe=path)
    assert run.state.is_completed(), run.state.message
    store = open_store(recipe.store)
    pointer = json.loads(store.read("datasets/bench/latest.json"))
    assert store.exists(pointer["manifest"])
    shards = runs_of("shard")[before:]
    assert len(shards) == 2
    assert all(each.deployment_id and each.state.is_completed() for each in shards)
    assert (stub.stats()["requests"], stub.stats()["paid_twice"]) == (48, 0)

    again = nightly(path, ("execution.shard_deployment=null",))  # the next night, here
    assert again["dataset"]["sha256"] == pointer["sha256"]
    assert stub.stats()["requests"] == 48
    (training,) = training_runs(again)
    assert training.state.is_scheduled()
    assert training.work_queue_name == "train"
    assert maintain(path)["requested"] == {pointer["manifest"]: training.state.name}
    assert len(training_runs(again)) == 1


@pytest.mark.usefixtures("worker")
def test_ranges_that_workers_build_make_the_plan_of_one_process(
    folder: Path, stub: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import planning
    from tasks.planning import building
    from tasks.planning.make_plan import make_plan

    monkeypatch.setattr(building, "SMALL_CHARACTERS", 0)  # so that so few questions are worth it
    monkeypatch.setattr(building, "_BATCH_QUESTIONS", 3)
    monkeypatch.setattr(planning, "RANGES_PER_RUN", 2)
    recipe, _ = recipe_file(folder, stub, execution={"planning_deployment": "plan-ranges/longmill-plan"})
    here = make_plan(recipe, open_store(str(folder / "here")))
    store = open_store(recipe.store)
    lines: list[str] = []
    monkeypatch.setattr(planning.progress, "say", lines.append)
    assert make_plan(recipe, store, elsewhere=planning.planning_elsewhere(recipe, store)) == here
    runs = runs_of("plan-ranges")
    assert [run.state.is_completed() for run in runs] == [True, True]
    assert [len(run.parameters["ranges"]) for run in runs] == [2, 1]  # the first range was built here
    assert lines == []
    assert store.list("planning/") == []


@pytest.mark.usefixtures("worker")
def test_failed_shards_are_run_again_by_the_rerun_deployment(folder: Path, stub: StubServer) -> None:
    from flows.cli.plan_state import plan_status
    from flows.nightly import nightly

    recipe, path = recipe_file(folder, stub, dataset={"name": "mended"})
    stub.options.script = ["ok"] * 25 + ["500"] * 1000
    with pytest.raises(LongmillError, match="longmill rerun"):
        nightly(path)
    (state,) = plan_status(recipe.store, "")
    assert "failed" in {each["state"] for each in state["shards"]}
    stub.options.script.clear()
    run = run_on_worker("rerun/longmill-rerun", plan_id=state["plan_id"][:6], store=recipe.store)
    assert run.state.is_completed(), run.state.message
    assert {each["state"] for each in plan_status(recipe.store, "")[0]["shards"]} == {"done"}
    assert (stub.stats()["answered"], stub.stats()["paid_twice"]) == (48, 0)
    (training,) = [run for run in runs_of("train") if run.parameters["recipe"]["dataset"]["name"] == "mended"]
    assert open_store(recipe.store).exists(training.parameters["manifest"])


@pytest.mark.usefixtures("deployed")
def test_a_recipe_without_training_asks_for_none(folder: Path, stub: StubServer) -> None:
    from flows.nightly import nightly

    before = len(runs_of("train"))
    _, path = recipe_file(folder, stub, dataset={"name": "untrained"})
    built = nightly(path, ("training=null",))
    assert built["dataset"]
    assert len(runs_of("train")) == before


def test_a_shard_deployment_that_is_not_there_is_named(folder: Path, stub: StubServer) -> None:
    from flows.nightly import nightly

    _, path = recipe_file(folder, stub, execution={"shard_deployment": "shard/nowhere"})
    with pytest.raises(LongmillError, match="there is no deployment 'shard/nowhere'"):
        nightly(path)
    assert stub.stats()["requests"] == 0


def test_a_shard_in_another_process_counts_what_finished_shards_cost(folder: Path, stub: StubServer) -> None:
    from flows.build import plan_questions
    from flows.shard import shard_recipe
    from flows.workers import shard

    recipe, _ = recipe_file(folder, stub, budget={"calls": 25})
    parameters = shard_recipe(recipe)
    plan_id = plan_questions.fn(recipe, recipe.name)
    shard(parameters, plan_id, [0])  # 24 calls
    with pytest.raises(BudgetReached, match=r"budget\.calls = 25"):
        shard(parameters, plan_id, [1])  # 24 more, on a meter of its own
    assert stub.stats()["requests"] == 25


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("deployed")
def test_a_worker_that_is_killed_is_noticed_and_its_shards_are_taken_over(
    folder: Path, stub: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import workers
    from flows.nightly import nightly
    from infra.running import remote_runs

    monkeypatch.setattr(remote_runs, "AUTOMATION", "lost-runs-of-a-test")
    monkeypatch.setattr(remote_runs, "LOST_AFTER_S", 32)  # a heartbeat comes every 30 s
    monkeypatch.setattr(workers, "STILL_S", 15.0)
    stub.options.latency = 2.0
    execution = {"shard_deployment": "shard/longmill-shard", "concurrency": 2}
    _, path = recipe_file(folder, stub, execution=execution, dataset={"name": "killed"})
    before = len(runs_of("shard"))

    def kill_a_worker() -> None:
        while stub.stats()["requests"] < 4:
            time.sleep(0.1)
        for worker in started:
            processes = psutil.Process(worker.supervisor).children(recursive=True)
            if any("prefect.engine" in process.cmdline() for process in processes):
                break
        for process in processes:
            process.kill()
        stub.options.latency = 0.0

    with running_worker(folder / "first") as first, running_worker(folder / "second") as second:
        started = [first, second]
        killing = threading.Thread(target=kill_a_worker)
        killing.start()
        built = nightly(path)
        killing.join()
    assert built["dataset"]["counts"]["questions"] == 12
    assert stub.stats()["paid_twice"] <= 2
    states = [run.state.name for run in runs_of("shard")[before:] if run.deployment_id]
    assert "Crashed" in states
    assert built["calls"]["sample"]["made"] >= 44  # the killed run's last seconds are missing
