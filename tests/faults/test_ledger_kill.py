"""kill -9 while the ledger records: every reply whose record() had returned is still there."""

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
from infra import ledger as module
from infra.ledger import Entry, Ledger
from infra.store import open_store

module._OWN_SEGMENTS = 4  # so that the kill also falls into merges

async def call(ledger, numbers):
    for number in numbers:
        key = hashlib.sha256(f"{sys.argv[2]} {number}".encode()).hexdigest()
        os.write(1, f"paid {key}\\n".encode())
        reply = "reply to " + key + "." * 500
        await ledger.record(Entry(key, "sample", "policy", "main", 200, reply, 1, 2, 0.1, 1.8e9))
        os.write(1, f"kept {key}\\n".encode())

async def main():
    ledger, numbers = Ledger(open_store(sys.argv[1])), itertools.count()
    await asyncio.gather(*(call(ledger, numbers) for _ in range(int(sys.argv[3]))))

asyncio.run(main())
"""


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with store_url(request.param, tmp_path, monkeypatch) as url:
        yield url


def _killed_after(url: str, name: str, kept: int) -> tuple[set[str], set[str]]:
    """Run a recorder, kill it when it has kept `kept` replies; returns the keys it paid for and kept."""
    command = [sys.executable, "-c", RECORDER, url, name, str(IN_FLIGHT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as recorder:
        assert recorder.stdout is not None
        lines = []
        for line in recorder.stdout:
            lines.append(line.split())
            if sum(1 for verb, _ in lines if verb == "kept") == kept:
                os.kill(recorder.pid, signal.SIGKILL)
                break
        lines += [line.split() for line in recorder.stdout if line.endswith("\n")]
    return {key for verb, key in lines if verb == "paid"}, {key for verb, key in lines if verb == "kept"}


@pytest.mark.slow
def test_after_a_kill_at_most_the_calls_in_flight_are_paid_again(url: str) -> None:
    everything: set[str] = set()
    for round_, kept_before_kill in enumerate((1, 150)):
        paid, kept = _killed_after(url, str(round_), kept_before_kill)
        everything |= kept
        ledger = Ledger(open_store(url))
        assert len(kept) >= kept_before_kill
        assert kept <= ledger.holds(sorted(paid))
        assert len(paid - ledger.holds(sorted(paid))) <= IN_FLIGHT
        found = ledger.lookup(sorted(everything))
        assert {key: entry.reply for key, entry in found.items()} == {
            key: "reply to " + key + "." * 500 for key in everything
        }
        assert ledger.set_aside == 0
    assert hashlib.sha256(b"0 0").hexdigest() in everything
    ledger.compact(all=True)
    assert everything <= Ledger(open_store(url)).holds(sorted(everything))
