"""A process that is killed (SIGKILL) in each phase of a batch: the next one finds the batch, and pays nothing twice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from infra.models.batches.records import open_batches
from infra.models.client import Reply
from infra.store import open_store
from tests.support.batch_client import ask
from tests.support.batch_stub import BatchStub, running_batches

pytestmark = pytest.mark.medium

ROOT = Path(__file__).resolve().parents[3]


def kill_at(place: str, stub: BatchStub, folder: Path) -> None:
    """Start the process, wait until it is at that place of the protocol, kill it."""
    stub.batching.stops_at = place
    command = [sys.executable, "-m", "tests.support.batch_client", stub.url, str(folder)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        assert stub.stopped.wait(60)
        process.kill()


@pytest.mark.parametrize(
    ("place", "uploads", "made"),
    [("upload", 2, 1), ("create", 1, 1), ("made", 1, 1), ("look", 1, 1), ("content", 1, 1)],
)
def test_no_request_is_paid_twice(place: str, uploads: int, made: int, tmp_path: Path) -> None:
    with running_batches() as stub:
        kill_at(place, stub, tmp_path)
        assert len(open_batches(open_store(str(tmp_path)))) == (place != "upload")
        stub.go_on()  # the server goes on with what it was doing when the process was killed
        outcomes = ask(stub.url, str(tmp_path))
    assert all(isinstance(outcome, Reply) for outcome in outcomes) and len(outcomes) == 10
    assert (stub.uploads, stub.sizes) == (uploads, [10] * made)
    assert stub.answered.total() == 10 and stub.paid_twice == 0
    assert open_batches(open_store(str(tmp_path))) == []


def test_a_batch_that_was_about_to_be_made_and_never_was_is_made_anew(tmp_path: Path) -> None:
    with running_batches(create_faults=["500"]) as stub:
        kill_at("create", stub, tmp_path)
        stub.go_on()
        (state,) = tmp_path.glob("batches/*/*/state.json")
        written = json.loads(state.read_text())
        state.write_text(json.dumps(written | {"at": written["at"] - 100}))  # as after a while
        outcomes = ask(stub.url, str(tmp_path))
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    assert stub.sizes == [10] and stub.paid_twice == 0
    assert open_batches(open_store(str(tmp_path))) == []


def test_a_kill_after_the_last_reply_leaves_no_batch_to_wait_for(tmp_path: Path) -> None:
    with running_batches() as stub:
        kill_at("content", stub, tmp_path)
        (folder,) = tmp_path.glob("batches/*/*")
        record = {path.name: path.read_bytes() for path in folder.iterdir()}
        stub.go_on()
        ask(stub.url, str(tmp_path))
        folder.mkdir(exist_ok=True)
        for name, content in record.items():  # as if it had been killed before it removed them
            (folder / name).write_bytes(content)
        ask(stub.url, str(tmp_path))
    assert stub.sizes == [10] and open_batches(open_store(str(tmp_path))) == []
