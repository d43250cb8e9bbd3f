"""The lease: one holder at a time in any order of events; who dies or falls silent is succeeded, and finds it out."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.errors import BusyError, StoreError
from infra.store import Store, open_store
from infra.store.lease import Holder, Lease, LeaseTimes
from tests.support.memory_store import MemoryStore, Turns
from tests.support.s3 import store_url

ELSEWHERE = "another machine"
QUICK = LeaseTimes(beat_s=0.05, silent_s=2.0, look_s=0.05, settle_s=0.05)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def lease_at(store: Store, clock: Clock, turns: Turns | None = None, machine: str = ELSEWHERE) -> Lease:
    """A claim of a process on another machine, whose end cannot be seen from here."""
    holder = replace(Holder.this_process("build demo"), machine=machine)
    return Lease(store, "leases/p", holder, clock=clock, sleep=(turns or Turns()).sleep)


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with store_url(request.param, tmp_path, monkeypatch) as url:
        yield open_store(url)


@pytest.mark.medium
def test_the_second_gets_to_know_the_first_and_follows_it(store: Store) -> None:
    clock = Clock()
    first, second = lease_at(store, clock), lease_at(store, clock)
    assert first.try_to_take() is None
    holder = second.try_to_take()
    assert holder is not None
    assert str(holder).startswith(f"'build demo', process {os.getpid()} on ")
    first.beat()
    first.release()
    assert second.try_to_take() is None
    second.check()
    with pytest.raises(BusyError, match="taken over by 'build demo'"):
        first.check()


@pytest.mark.medium
def test_files_of_earlier_holders_go(store: Store) -> None:
    clock = Clock()
    for _ in range(3):
        lease = lease_at(store, clock)
        assert lease.try_to_take() is None
        lease.beat()
        lease.release()
    assert store.list() == ["leases/p/0003.beat", "leases/p/0003.json"]


def test_silence_is_measured_by_the_clock_of_the_one_who_waits() -> None:
    store, clock = Store(MemoryStore()), Clock()
    first, second = lease_at(store, clock), lease_at(store, clock)
    assert first.try_to_take() is None
    for _ in range(5):
        assert second.try_to_take() is not None
        clock.now += 40
        first.beat()
    assert second.try_to_take() is not None  # a new beat: silent from now on
    clock.now += 49.9
    assert second.try_to_take() is not None
    clock.now += 0.1
    assert second.try_to_take() is None
    with pytest.raises(BusyError):
        first.beat()


def test_a_pause_of_the_one_who_waits_is_no_silence_of_the_holder() -> None:
    clock = Clock()
    backend = MemoryStore()
    store = Store(backend)
    first, second = lease_at(store, clock), lease_at(store, clock)
    assert first.try_to_take() is None
    assert second.try_to_take() is not None
    read = backend.read

    def paused_after(path: str) -> bytes:
        data = read(path) if path in backend.files else b""
        clock.now += 500  # the process was stopped after its look
        return data

    backend.read = paused_after  # type: ignore[method-assign]
    assert second.try_to_take() is not None
    first.check()


def test_an_outage_of_the_store_is_no_silence_of_the_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    store, clock = Store(MemoryStore()), Clock()
    first, second = lease_at(store, clock), lease_at(store, clock)
    assert first.try_to_take() is None
    assert second.try_to_take() is not None
    clock.now += 60
    with monkeypatch.context() as patch:
        patch.setattr(MemoryStore, "sizes", lambda self, prefix: (_ for _ in ()).throw(OSError("away")))
        with pytest.raises(StoreError):
            second.try_to_take()
    assert second.try_to_take() is not None
    clock.now += 60
    assert second.try_to_take() is None


def test_a_store_that_lets_a_look_wait_for_long_is_no_silence_of_the_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    store = Store(MemoryStore(Turns()))
    holder, waiting = lease_at(store, clock), lease_at(store, clock)
    assert holder.try_to_take() is None
    assert waiting.try_to_take() is not None
    read = store.read

    def read_after_an_outage(path: str) -> bytes:
        clock.now += 40
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(store, "read", read_after_an_outage)
        assert waiting.try_to_take() is not None
    clock.now += 40  # 120 s since the first look, 40 since the store is back
    assert waiting.try_to_take() is not None
    clock.now += 50
    assert waiting.try_to_take() is None


@pytest.mark.medium
def test_a_claim_that_cannot_be_read_is_named(store: Store) -> None:
    store.write("leases/p/0001.json", b"{}")
    with pytest.raises(StoreError, match=r"0001\.json: not the claim of a lease"):
        lease_at(store, Clock()).try_to_take()


@pytest.mark.medium
@settings(max_examples=150, deadline=None)
@given(choices=st.lists(st.integers(0, 5), min_size=1, max_size=60), one_winner=st.booleans(), silent=st.booleans())
def test_of_three_that_wait_one_succeeds_the_holder(choices: list[int], one_winner: bool, silent: bool) -> None:
    turns, clock = Turns(), Clock()
    store = Store(MemoryStore(turns, one_winner))
    before = lease_at(store, clock, turns)
    outcomes: list[Holder | None] = []
    if silent:
        turns.run([lambda: outcomes.append(before.try_to_take())], [0])
        outcomes.clear()
        before.beat()
    waiting = [lease_at(store, clock, turns) for _ in range(3)]
    if silent:
        assert None not in [lease.try_to_take() for lease in waiting]
    clock.now += 60
    turns.run([lambda lease=lease: outcomes.append(lease.try_to_take()) for lease in waiting], choices)  # type: ignore[misc]
    assert outcomes.count(None) == 1
    checked = []
    for lease in [before, *waiting] if silent else waiting:
        try:
            lease.check()
            checked.append(lease)
        except BusyError:
            pass
    assert len(checked) == 1
    assert checked[0] in waiting


@pytest.mark.medium
@settings(max_examples=150, deadline=None)
@given(choices=st.lists(st.integers(0, 5), min_size=1, max_size=80))
def test_holders_follow_one_another_and_never_overlap(choices: list[int]) -> None:
    turns, clock = Turns(), Clock()
    backend = MemoryStore(turns)
    store = Store(backend)
    inside: list[int] = []
    finished: list[int] = []

    def work(number: int) -> None:
        lease = lease_at(store, clock, turns)
        while lease.try_to_take() is not None:
            turns.sleep(1)
        inside.append(number)
        assert inside == [number]
        lease.beat()
        assert inside == [number]
        inside.clear()
        lease.release()
        finished.append(number)

    turns.run([lambda number=number: work(number) for number in range(4)], choices)  # type: ignore[misc]
    assert sorted(finished) == [0, 1, 2, 3]


PROCESS = """
import sys, time
from infra.store import open_store
from infra.store.lease import Holder, Lease, LeaseTimes
times = LeaseTimes(beat_s=0.05)
lease = Lease(open_store(sys.argv[1]), "leases/p", Holder.this_process("build demo"), times)
assert lease.try_to_take() is None
with lease.beating(), lease.calling_when_lost(lambda error: print("lost", error, flush=True)):
    print("taken", flush=True)
    while lease.lost is None:
        time.sleep(0.02)
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process of this machine that has the lease of the store in `tmp_path`."""
    command = [sys.executable, "-c", PROCESS, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        yield process
        process.kill()


def quick_lease(tmp_path: Path) -> Lease:
    return Lease(open_store(str(tmp_path)), "leases/p", Holder.this_process("build demo"), QUICK)


def wait_for(lease: Lease, timeout_s: float = 30) -> None:
    """Wait until the lease is taken."""
    deadline = time.monotonic() + timeout_s
    while lease.try_to_take() is not None:
        assert time.monotonic() < deadline
        time.sleep(lease.times.look_s)


@pytest.mark.medium
def test_a_process_of_this_machine_that_was_killed_is_succeeded_at_once(
    process: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    lease = Lease(open_store(str(tmp_path)), "leases/p", Holder.this_process("build demo"))  # silent after 50 s
    assert lease.try_to_take() is not None
    process.kill()
    wait_for(lease, 10)
    lease.check()


@pytest.mark.medium
def test_a_process_that_was_paused_finds_out_that_it_was_succeeded(
    process: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    lease = quick_lease(tmp_path)
    beat, beats = tmp_path / "leases" / "p" / "0001.beat", set()
    while len(beats) < 5:
        assert lease.try_to_take() is not None
        if beat.exists():
            beats.add(beat.read_bytes())
        time.sleep(0.02)
    process.send_signal(signal.SIGSTOP)
    wait_for(lease)
    process.send_signal(signal.SIGCONT)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("lost ")
    assert process.wait(20) == 0
    lease.check()  # it has not given back what is not its own


def test_a_lease_ends_with_its_block(tmp_path: Path) -> None:
    first, second = quick_lease(tmp_path), quick_lease(tmp_path)
    assert first.try_to_take() is None
    with pytest.raises(KeyError), first.beating():
        assert second.try_to_take() is not None
        raise KeyError
    assert second.try_to_take() is None


def test_a_loss_before_the_block_is_reported_in_it(tmp_path: Path) -> None:
    first, second = quick_lease(tmp_path), lease_at(open_store(str(tmp_path)), clock := Clock())
    assert first.try_to_take() is None
    assert second.try_to_take() is not None
    clock.now += 60
    assert second.try_to_take() is None
    losses: list[BusyError] = []
    with first.beating():
        deadline = time.monotonic() + 20
        while first.lost is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with first.calling_when_lost(losses.append):
            pass
    assert losses == [first.lost]
    assert open_store(str(tmp_path)).list() == ["leases/p/0002.json"]  # what is another's is not given back
