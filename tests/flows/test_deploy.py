"""`longmill deploy` again, a worker of another checkout, what automations tell, and who asks for a training."""

import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from flows.cli.deploying import register_all
from infra.errors import InputError
from infra.running.registration import Named, Registered
from tests.support.deployed import ROOT, WAIT_S, recipe_file, run_on_worker, running_worker, runs_of
from tests.support.http_server import http_server
from tests.support.stub_server import StubServer, running_stub

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect")]

NIGHTLY, MAINTAIN = "nightly/longmill-nightly", "maintain/longmill-maintain"


@pytest.fixture(scope="module")
def messages() -> Iterator[list[str]]:
    """What a notification block of the type custom-webhook, named ops, has sent."""
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    received: list[str] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            """Nothing."""

    with http_server(Webhook) as port:
        url = f"http://127.0.0.1:{port}"
        body = {"text": "{{subject}} | {{body}}"}
        CustomWebhookNotificationBlock(name="ops", url=url, json_data=body).save("ops", overwrite=True)
        yield received


@pytest.fixture(scope="module")
def registered(prefect: None, messages: list[str]) -> list[Registered]:
    """What a first `longmill deploy` says; other files may have deployed on the session's server before."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for deployment in client.read_deployments(limit=200):
            client.delete_deployment(deployment.id)
        for automation in client.read_automations():
            client.delete_automation(automation.id)
    return register_all(Named("longmill"), "custom-webhook/ops")


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with running_stub() as server:
        yield server


def outcomes(registered: list[Registered]) -> dict[str, str]:
    return {one.name: one.outcome for one in registered}


def read(deployment: str) -> Any:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_deployment_by_name(deployment)


def await_message(messages: list[str], text: str) -> str:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        for message in messages:
            if text in message:
                return message
        time.sleep(0.2)
    raise AssertionError(f"no message with {text!r} in {messages}")


def test_deploying_again_changes_nothing_and_leaves_what_a_person_has_set(registered: list[Registered]) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import DeploymentUpdate

    assert {"made"} == {one.outcome for one in registered if one.kind in ("deployment", "automation")}
    assert set(outcomes(register_all(Named("longmill"), "custom-webhook/ops")).values()) == {"left"}

    nightly = read(NIGHTLY)
    with get_client(sync_client=True) as client:
        client.update_deployment_schedule(nightly.id, nightly.schedules[0].id, active=True)
        theirs = {"env": {**nightly.job_variables["env"], "JUDGE_API_KEY": "x"}, "command": "python -m other"}
        changes = DeploymentUpdate(tags=["ours"], parameters={"recipe": "longreward"}, job_variables=theirs)
        client.update_deployment(nightly.id, changes)
    again = outcomes(register_all(Named("longmill"), ""))
    assert {name for name, outcome in again.items() if outcome != "left"} == {NIGHTLY}  # a command is Longmill's
    nightly = read(NIGHTLY)
    assert nightly.schedules[0].active
    assert nightly.parameters == {"recipe": "longreward"}
    assert set(nightly.tags) == {"ours", "longmill"}
    assert nightly.job_variables["env"]["JUDGE_API_KEY"] == "x"
    assert nightly.job_variables["command"] == "python -m prefect.engine"
    assert set(outcomes(register_all(Named("longmill"), "")).values()) == {"left"}


def test_what_is_named_is_set(registered: list[Registered]) -> None:
    named = Named("longmill", recipe="s3://mill/nightly.yaml", schedule="15 2 * * *")
    changed = {name for name, outcome in outcomes(register_all(named, "")).items() if outcome == "changed"}
    assert {NIGHTLY, MAINTAIN} <= changed
    assert read(MAINTAIN).parameters["recipe"] == "s3://mill/nightly.yaml"
    (schedule,) = read(NIGHTLY).schedules
    assert (schedule.schedule.cron, schedule.active) == ("15 2 * * *", True)
    (schedule,) = read(MAINTAIN).schedules
    assert (schedule.schedule.cron, schedule.active) == ("30 * * * *", True)
    register_all(Named("longmill", schedule="off"), "")
    (schedule,) = read(NIGHTLY).schedules
    assert (schedule.schedule.cron, schedule.active) == ("15 2 * * *", False)
    for wrong in (
        Named("longmill", schedule="every night"),
        Named("longmill", pool_type="docker"),
        Named("other", pool_type="ecs"),
    ):
        with pytest.raises(InputError):
            register_all(wrong, "")
    with pytest.raises(InputError, match="slack-webhook/none"):
        register_all(Named("longmill"), "slack-webhook/none")


def test_a_pool_of_containers_has_its_template_and_the_queue_train_its_gpus(prefect: None) -> None:
    from prefect.client.orchestration import get_client

    from infra.running.registration import job_template

    for pool_type in ("docker", "kubernetes"):
        named = Named(f"in-{pool_type}", pool_type, image="longmill:build", train_image="longmill:train")
        register_all(named, "")
        train = read("train/longmill-train")
        assert (train.work_pool_name, train.work_queue_name) == (f"in-{pool_type}", "train")
        assert train.job_variables["image"] == "longmill:train"
        assert read("shard/longmill-shard").job_variables["image"] == "longmill:build"
        with get_client(sync_client=True) as client:
            assert client.read_work_pool(f"in-{pool_type}").base_job_template == job_template(pool_type)
    register_all(Named("longmill"), "")
    assert "image" not in read("shard/longmill-shard").job_variables
    assert "gpus" not in read("train/longmill-train").job_variables


def test_a_worker_runs_its_own_longmill_and_automations_tell_of_it(
    folder: Path, stub: StubServer, registered: list[Registered], messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_API_URL

    from flows.cli.server_checks import server_checks

    checkout = folder / "their" / "longmill"
    for package in ("flows", "tasks", "infra"):
        shutil.copytree(ROOT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    recipe, path = recipe_file(checkout, stub, execution={"shard_deployment": "shard/longmill-shard"})
    Path(path).write_text(yaml.safe_dump({**recipe.model_dump(mode="json"), "store": "mill"}), encoding="utf-8")
    with running_worker(folder, checkout):
        run = run_on_worker(NIGHTLY, recipe="recipe.yaml")
        assert run.state.is_completed(), run.state.message
        pointer = json.loads((checkout / "mill" / "datasets" / "bench" / "latest.json").read_bytes())
        lost = run_on_worker(NIGHTLY, recipe="nowhere.yaml")
        assert lost.state.is_failed()

        monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value() or "")
        monkeypatch.setattr("infra.running.registration.QUEUES", ("default",))  # nobody trains here
        for _, check in server_checks():
            check()
    assert runs_of("shard")
    published = await_message(messages, "Longmill has published bench")
    assert pointer["manifest"] in published
    assert "of 12 questions" in published
    assert "nowhere.yaml" in await_message(messages, "is Failed")


def test_two_builders_and_a_server_that_was_away_make_one_training(
    registered: list[Registered], monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.build import request_training
    from infra.running import remote_runs, server_away

    monkeypatch.setattr(server_away, "_POLL_S", 0.05)
    before, ask, refusals = len(runs_of("train")), remote_runs.run_deployment, iter(range(2))

    def ask_a_server_that_is_away(*arguments: Any, **options: Any) -> Any:
        if next(refusals, None) is not None:
            raise httpx.ConnectError("connection refused")
        return ask(*arguments, **options)

    monkeypatch.setattr(remote_runs, "run_deployment", ask_a_server_that_is_away)
    dataset = {"manifest": "datasets/twice/1/manifest.json", "sha256": "5" * 64}
    with ThreadPoolExecutor(4) as builders:
        states = list(builders.map(lambda _: request_training({"name": "twice"}, dataset), range(4)))
    assert len(runs_of("train")) == before + 1
    assert states == ["Scheduled"] * 4


def test_maintenance_asks_for_a_training_that_nobody_has_asked_for(
    folder: Path, stub: StubServer, registered: list[Registered]
) -> None:
    from flows.maintain import maintain
    from flows.nightly import nightly

    _, path = recipe_file(folder, stub, dataset={"name": "untrained"})
    built = nightly(path, ("training=null",))  # as if the request had been lost
    manifest = built["dataset"]["manifest"]
    for _ in range(2):
        assert maintain(path)["requested"] == {manifest: "Scheduled"}
    assert sum(run.parameters["manifest"] == manifest for run in runs_of("train")) == 1
