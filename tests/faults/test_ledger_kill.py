"""kill -9 while the ledger records: every reply whose record() has returned is still there."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.ledger import Ledger
from infra.store import open_store
from tests.support.s3 import store_url

IN_FLIGHT = 32

RECORDER = """
import asyncio, hashlib, itertools, os, sys
from infra.ledger import ledger as module
from infra.ledger import Entry, Ledger
from infra.store import open_store

module._MAX_OWN_SEGMENTS = 4  # so that the kill also falls into merges

async def call(ledger, numbers):
    for number in numbers:
        key = hashlib.sha256(f"{sys.argv[2]} {number}".encode()).hexdigest()
        os.write(1, f"paid {key}\\n".encode())
        reply = "reply to " + key + "." * 500
        await ledger.record(Entry(key, "sample", "policy", "main", 200, reply, 1, 2, 0.1, 1.8e9))
        os.write(1, f"recorded {key}\\n".encode())

async def main():
    ledger, numbers = Ledger(open_store(sys.argv[1])), itertools.count()
    await asyncio.gather(*(call(ledger, numbers) for _ in range(int(sys.argv[3]))))

asyncio.run(main())
"""


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with store_url(request.param, tmp_path, monkeypatch) as url:
        yield url


def _killed_after(url: str, name: str, count: int) -> tuple[set[str], set[str]]:
    """Run a recorder, kill it when it has recorded `count` replies; returns the keys that it paid for and recorded."""
    command = [sys.executable, "-c", RECORDER, url, name, str(IN_FLIGHT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as recorder:
        assert recorder.stdout is not None
        lines = []
        for line in recorder.stdout:
            lines.append(line.split())
            if [verb for verb, _ in lines].count("recorded") == count:
                os.kill(recorder.pid, signal.SIGKILL)
                break
        lines += [line.split() for line in recorder.stdout if line.endswith("\n")]
    keys: dict[str, set[str]] = {"paid": set(), "recorded": set()}
    for verb, key in lines:
        keys[verb].add(key)
    return keys["paid"], keys["recorded"]


@pytest.mark.slow
def test_after_a_kill_at_most_the_calls_in_flight_are_paid_again(url: str) -> None:
    all_recorded: set[str] = set()
    for round_, count in enumerate((1, 150)):
        paid, recorded = _killed_after(url, str(round_), count)
        all_recorded |= recorded
        ledger = Ledger(open_store(url))
        assert len(recorded) >= count
        assert recorded <= ledger.holds(sorted(paid))
        assert len(paid - ledger.holds(sorted(paid))) <= IN_FLIGHT
        replies = {key: entry.reply for key, entry in ledger.lookup(sorted(all_recorded)).items()}
        assert replies == {key: "reply to " + key + "." * 500 for key in all_recorded}
        assert ledger.damaged_segments == 0
    assert hashlib.sha256(b"0 0").hexdigest() in all_recorded
    ledger.compact(all=True)
    assert all_recorded <= Ledger(open_store(url)).holds(sorted(all_recorded))
