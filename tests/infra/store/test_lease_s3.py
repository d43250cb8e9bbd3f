"""The lease on a real S3 server: one winner of many processes, at the beginning and when the holder is killed."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.store import open_store
from infra.store.lease import Holder, Lease
from tests.support.s3 import needs_real_s3, real_s3, s3_bucket

pytestmark = [pytest.mark.slow, needs_real_s3]

# A process of another machine, as far as the others can see: only silence shows that it has ended.
PROCESS = """
import sys, time
from dataclasses import replace
from infra.store import open_store
from infra.store.lease import Holder, Lease, LeaseTimes
holder = replace(Holder.this_process("build demo"), machine=sys.argv[2])
lease = Lease(open_store(sys.argv[1]), "leases/p", holder, LeaseTimes(beat_s=0.2, silent_s=3.0, look_s=0.05))
lease._store.has_one_winner()  # the probe, before the race
print("ready", flush=True)
sys.stdin.readline()
while lease.try_to_take() is not None:
    time.sleep(lease.times.look_s)
with lease.beating():
    print("taken", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with real_s3(tmp_path_factory.mktemp("s3")) as environment:
        yield environment


@pytest.fixture
def url(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_bucket(monkeypatch, server) as bucket:
        yield f"{bucket}/mill"


def numbers(url: str) -> list[str]:
    """The claims that are there, by their numbers."""
    paths = open_store(url).list("leases/p")
    return [path.rpartition("/")[2].removesuffix(".json") for path in paths if path.endswith(".json")]


def test_one_process_has_the_lease_and_the_next_follows_a_killed_one(url: str, tmp_path: Path) -> None:
    processes = []
    for number in range(3):
        command = [sys.executable, "-c", PROCESS, url, f"machine {number}"]
        log = tmp_path / f"{number}.out"
        with log.open("wb") as output:
            processes.append((subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output), log))
    try:
        _wait(lambda: [_said(log) for _, log in processes].count("ready") == 3)
        for process, _ in processes:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
        waiting = dict(processes)
        for number in range(1, 4):  # each is killed in its turn
            _wait(lambda: "taken" in [_said(log) for log in waiting.values()])
            (holder,) = (process for process, log in waiting.items() if _said(log) == "taken")
            assert numbers(url) == [f"{number:04d}"]
            holder.kill()
            del waiting[holder]
    finally:
        for process, _ in processes:
            process.kill()
            process.communicate()
    # a process of this machine cannot know that: it waits for silence
    assert Lease(open_store(url), "leases/p", Holder.this_process("build demo")).try_to_take() is not None


def _said(log: Path) -> str:
    """The last line that a process has printed."""
    return log.read_text().strip().rpartition("\n")[2]


def _wait(condition: Callable[[], bool], timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
