"""Secrets come from the environment and stay there: not in the store, in Prefect's database, or in a log."""

import json
import logging
import sqlite3
import traceback
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from aiohttp import web
from typer.testing import CliRunner

from flows.bench.common import stub_recipe, write_questions
from flows.cli.app import app
from infra.errors import LongmillError
from infra.store import open_store
from tests.support.s3 import s3_bucket
from tests.support.stub_server import StubServer, running_stub

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect"), pytest.mark.timeout(900)]

API_KEY = "sk-geheim-0123456789"
AWS_SECRET = "kept-out-of-every-log"
SECRETS = {  # by the variable of the environment
    "POLICY_KEY_OF_TEST": "geheim-policy-0123456789",
    "GATEWAY_OF_TEST": "geheim-gateway-4711",
    "PREFECT_API_KEY": "pnu_geheim0123456789",
    "AWS_SECRET_ACCESS_KEY": AWS_SECRET,
}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_bucket(monkeypatch) as url:
        yield f"{url}/mill"


def everything_in_prefect() -> str:
    """All rows of the server's database: parameters, states, artifacts, events and logs; waits until these are sent."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker
    from prefect.settings import get_current_settings

    APILogWorker.drain_all(timeout=10)
    EventsWorker.drain_all(timeout=10)
    url = get_current_settings().server.database.connection_url
    assert url is not None
    path = url.get_secret_value().removeprefix("sqlite+aiosqlite:///")
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return "\n".join(database.iterdump())
    finally:
        database.close()


def everything_in(folder: Path) -> bytes:
    """The bytes of all files, and the cells of all tables, because tables are compressed."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    tables = [repr(pq.read_table(path).to_pydict()).encode() for path in files if path.suffix == ".parquet"]
    return b"\n".join([*(path.read_bytes() for path in files), *tables])


@pytest.mark.parametrize("accepted", [True, False])
def test_keys_reach_the_servers_and_nothing_else(
    folder: Path, bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, accepted: bool
) -> None:
    from prefect.settings import get_current_settings

    from flows.build import build
    from flows.shard import shard_recipe

    monkeypatch.setenv("OPENAI_API_KEY", API_KEY)
    write_questions(folder / "questions.jsonl", 6, 300)
    with caplog.at_level(logging.DEBUG), running_stub(api_key=API_KEY if accepted else "another") as stub:
        recipe = stub_recipe(folder, stub.url, execution={"shard_size": 3, "task_retries": 0, "attempts": 2})
        parameters = shard_recipe(recipe.model_copy(update={"store": bucket}))
        if accepted:
            assert build(parameters)["dataset"]["counts"]["questions"] == 6
        else:  # the server's error message contains the key
            with pytest.raises(LongmillError, match="OPENAI_API_KEY") as caught:
                build(parameters)
            assert API_KEY not in repr(caught.value)
        assert stub.headers["Authorization"] == f"Bearer {API_KEY}"
    open_store(bucket).download_folder("", folder / "copy")
    stored = everything_in(folder / "copy")
    results = everything_in(Path(str(get_current_settings().results.local_storage_path)))
    in_prefect = everything_in_prefect()
    assert "OPENAI_API_KEY" in in_prefect and b"OPENAI_API_KEY" in stored  # the names are: these are the right places
    for secret in (API_KEY, AWS_SECRET):
        assert secret not in in_prefect
        assert secret.encode() not in stored + results
        assert secret not in "\n".join(_own_messages(caplog))


class EchoingStub(StubServer):
    """While `echoes`, every reply is a 500 whose message repeats all headers of the request, as some gateways do."""

    echoes = True

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        if not self.echoes:
            return await super()._chat(request)
        self.headers = dict(request.headers)
        words = ", ".join(f"{name}: {value}" for name, value in request.headers.items())
        return web.json_response({"error": {"message": f"no upstream for {words}"}}, status=500)


def test_a_night_that_fails_is_run_again_and_asks_for_training_keeps_all_secrets(
    folder: Path, bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from prefect.settings import PREFECT_API_KEY, get_current_settings, temporary_settings

    from flows.maintain import maintain
    from flows.nightly import nightly
    from flows.rerun import rerun

    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    write_questions(folder / "questions.jsonl", 6, 300)
    monkeypatch.setattr("infra.running.remote_runs.watch_for_lost_runs", lambda: None)
    said = []
    with (
        caplog.at_level(logging.DEBUG),
        temporary_settings({PREFECT_API_KEY: SECRETS["PREFECT_API_KEY"]}),
        running_stub(make=EchoingStub) as stub,
    ):
        assert isinstance(stub, EchoingStub)
        policy = {"api_key_env": "POLICY_KEY_OF_TEST", "headers": {"x-gateway": "GATEWAY_OF_TEST"}}
        execution = {"shard_size": 3, "task_retries": 0, "attempts": 1}
        training = {"base": "microworld", "method": "lora"}
        recipe = stub_recipe(folder, stub.url, policy=policy, execution=execution, training=training)
        settings = recipe.model_copy(update={"store": bucket}).model_dump(mode="json")
        path = folder / "recipe.yaml"
        path.write_text(yaml.safe_dump(settings))
        with pytest.raises(LongmillError, match="no upstream for") as failed:
            nightly(str(path))
        said.append("".join(traceback.format_exception(failed.value)))
        status = CliRunner().invoke(app, ["status", "--store", bucket])
        assert "no upstream for" in status.output
        said += [status.output, CliRunner().invoke(app, ["status", "--store", bucket, "--json"]).output]
        stub.echoes = False
        (plan_id,) = {each.split("/")[1] for each in open_store(bucket).list("plans")}
        built = rerun(plan_id, store=bucket)
        said += [json.dumps(built), json.dumps(maintain(str(path)))]
        user_and_password = f"https://user:{SECRETS['POLICY_KEY_OF_TEST']}@gateway/v1"
        path.write_text(yaml.safe_dump(settings | {"policy": {**settings["policy"], "endpoints": [user_and_password]}}))
        with pytest.raises(LongmillError, match=r"policy\.endpoints: a URL has a password in it") as refused:
            nightly(str(path))
        said.append("".join(traceback.format_exception(refused.value)))
        assert stub.headers["X-Gateway"] == SECRETS["GATEWAY_OF_TEST"]
        assert stub.headers["Authorization"] == f"Bearer {SECRETS['POLICY_KEY_OF_TEST']}"
        in_prefect = everything_in_prefect()
    open_store(bucket).download_folder("", folder / "copy")
    stored = everything_in(folder / "copy").decode(errors="replace")
    results = everything_in(Path(str(get_current_settings().results.local_storage_path))).decode(errors="replace")
    assert "no upstream for" in in_prefect and "GATEWAY_OF_TEST" in in_prefect + stored  # these are the right places
    messages = "\n".join(_own_messages(caplog))
    places = {"store": stored, "results": results, "Prefect": in_prefect, "log": messages, "said": "\n".join(said)}
    leaks = [(name, place) for name, secret in SECRETS.items() for place, text in places.items() if secret in text]
    assert leaks == []


def _own_messages(caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    """The log without the debug messages of libraries, which no run of Longmill turns on."""
    for record in caplog.records:
        if record.levelno >= logging.INFO or record.name.startswith(("infra", "tasks", "flows")):
            yield record.getMessage() + json.dumps(record.__dict__, default=str)
