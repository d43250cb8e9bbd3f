"""Records of servers: read by other processes, and worth nothing once their process has ended."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.errors import PrerequisiteError
from infra.recipe import parse_recipe
from infra.serving import records
from infra.serving.records import Adapter, ServerRecord, read_record, shared_records, write_record
from infra.serving.servers import starting_servers


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this test's records."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / f"longmill-{os.getuid()}" / "servers"


def test_a_record_is_read_by_the_servers_url_alone(place: Path) -> None:
    write_record(ServerRecord(8123, "restarting", restarts=2))
    record = read_record("http://127.0.0.1:8123/v1")
    assert record is not None
    assert (record.state, record.restarts, record.pid) == ("restarting", 2, os.getpid())
    assert record.url == "http://127.0.0.1:8123/v1"
    for url in ("http://127.0.0.1:8124/v1", "http://10.0.0.1:8123/v1", "https://api.example.com/v1"):
        assert read_record(url) is None
    records.remove_record(8123)
    assert read_record("http://127.0.0.1:8123/v1") is None


def test_the_record_of_a_process_that_has_ended_counts_for_nothing(place: Path) -> None:
    program = "from infra.serving.records import *; write_record(ServerRecord(8123, 'up', shared='m'))"
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"TMPDIR": str(place.parents[1])})
    assert (place / "8123" / "record.json").exists()
    assert read_record("http://127.0.0.1:8123/v1") is None
    assert shared_records("m") == []


def test_a_process_with_the_pid_of_one_that_has_ended_is_another_one(place: Path) -> None:
    write_record(ServerRecord(8123, "up"))
    path = place / "8123" / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pid_started": "1"}))
    assert read_record("http://127.0.0.1:8123/v1") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"port": 1, "unknown": 2}'])
def test_a_record_that_cannot_be_read_is_none(place: Path, text: str) -> None:
    write_record(ServerRecord(8123, "up"))
    (place / "8123" / "record.json").write_text(text)
    assert read_record("http://127.0.0.1:8123/v1") is None


def test_a_server_that_is_not_up_yet_is_what_its_section_waits_for() -> None:
    model = {"name": "m", "tokenizer": "microworld", "context_window": 1024}
    policy = {**model, "endpoints": ["http://127.0.0.1:8123/v1", "https://api.example.com/v1"]}
    settings = {"name": "r", "store": "mill", "questions": {"source": "q.jsonl"}, "policy": policy}
    settings |= {"scoring": {"scorers": [{"scorer": "consensus"}]}, "dataset": {"name": "d", "licence": "mit"}}
    recipe = parse_recipe(settings, "test")
    for state, words in (
        ("waiting", {}),
        ("starting", {"policy": "its server starts"}),
        ("up", {}),
        ("restarting", {"policy": "its server starts again"}),
    ):
        write_record(ServerRecord(8123, state))
        assert starting_servers(recipe) == words


def test_servers_for_several_runs_are_listed_by_their_model(place: Path) -> None:
    write_record(ServerRecord(8001, "up", shared="a"))
    write_record(ServerRecord(8002, "restarting", shared="a"))
    write_record(ServerRecord(8003, "failed", shared="a"))
    write_record(ServerRecord(8004, "up", shared="b"))
    write_record(ServerRecord(8005, "up"))
    assert [record.port for record in shared_records("a")] == [8001, 8002]


def test_adapters_are_remembered_once_each_and_forgotten_by_a_new_server(place: Path) -> None:
    write_record(ServerRecord(8123, "up"))
    records.add_adapter(8123, Adapter("better", "/a"))
    records.add_adapter(8123, Adapter("best", "/b"))
    records.add_adapter(8123, Adapter("better", "/a"))
    assert records.read_adapters(8123) == [Adapter("better", "/a"), Adapter("best", "/b")]
    records.forget_earlier(8123)
    assert records.read_adapters(8123) == []


def test_the_folder_is_this_users_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(ServerRecord(8123, "up"))
    assert place.parent.stat().st_mode & 0o077 == 0
    elsewhere = place.parents[1] / "elsewhere"
    elsewhere.mkdir()
    (place.parents[1] / "other").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place.parents[1] / "other"))
    (place.parents[1] / "other" / f"longmill-{os.getuid()}").symlink_to(elsewhere)
    with pytest.raises(PrerequisiteError, match="belongs to another user"):
        write_record(ServerRecord(8123, "up"))
