"""Secrets come from the environment and stay there: not in the store, in Prefect's database, or in a log."""

import json
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.bench.common import stub_recipe, write_questions
from infra.errors import LongmillError
from infra.store import open_store
from tests.support.s3 import s3_bucket
from tests.support.stub_server import running_stub

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect")]

API_KEY = "sk-geheim-0123456789"
AWS_SECRET = "kept-out-of-every-log"


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


def _own_messages(caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    """The log without the debug messages of libraries, which no run of Longmill turns on."""
    for record in caplog.records:
        if record.levelno >= logging.INFO or record.name.startswith(("infra", "tasks", "flows")):
            yield record.getMessage() + json.dumps(record.__dict__, default=str)
