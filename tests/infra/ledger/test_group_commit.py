"""Group commit: one thread, bounded groups, bounded pauses, and every waiting task gets its result."""

import asyncio
import threading
from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from infra.errors import LedgerError
from infra.ledger import Entry, group_commit
from infra.ledger.group_commit import GroupCommit


def entry(reply: str) -> Entry:
    return Entry("0" * 64, "sample", "policy", "main", 200, reply, 1, 1, 0.1, 1.8e9)


def do_nothing() -> None:
    pass


@pytest.mark.parametrize(
    ("elapsed_s", "cpu_s", "pause_s"),
    [
        (0.001, 0.0001, 0.02),  # never less than 20 ms
        (0.05, 0.03, 0.3),  # ten times the processor time
        (0.7, 0.001, 0.7),  # as long as the commit took
        (30.0, 0.01, 1.0),  # never more than a second
        (0.5, 0.2, 1.0),
    ],
)
def test_the_pause_after_a_commit_is_bounded(elapsed_s: float, cpu_s: float, pause_s: float) -> None:
    assert group_commit._pause_after(elapsed_s, cpu_s) == pytest.approx(pause_s)


async def test_a_group_is_bounded_and_keeps_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "_GROUP_BYTES", 10)
    monkeypatch.setattr(group_commit, "_MAX_PAUSE_S", 0.0)
    groups: list[list[str]] = []
    first_commit_started, all_submitted = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def commit(entries: Sequence[Entry]) -> None:
        loop.call_soon_threadsafe(first_commit_started.set)
        all_submitted.wait(20)
        groups.append([entry.reply for entry in entries])

    writer = GroupCommit(commit, do_nothing)
    first = asyncio.create_task(writer.submit(entry("first")))
    await first_commit_started.wait()
    replies = ["aaaa", "bbbbb", "c", "dddddddddd", "e"]
    tasks = [asyncio.create_task(writer.submit(entry(reply))) for reply in replies]
    await asyncio.sleep(0)
    all_submitted.set()
    await asyncio.gather(first, *tasks)
    assert groups == [["first"], ["aaaa", "bbbbb", "c"], ["dddddddddd"], ["e"]]
    await asyncio.to_thread(writer.close)


async def test_a_cancelled_task_does_not_hold_up_the_others_of_its_group() -> None:
    groups: list[int] = []
    started, proceed = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def commit(entries: Sequence[Entry]) -> None:
        groups.append(len(entries))
        loop.call_soon_threadsafe(started.set)
        proceed.wait(20)

    writer = GroupCommit(commit, do_nothing)
    first = asyncio.create_task(writer.submit(entry("first")))
    await started.wait()
    tasks = [asyncio.create_task(writer.submit(entry(reply))) for reply in ("cancelled", "waiting")]
    await asyncio.sleep(0)
    tasks[0].cancel()
    proceed.set()
    await asyncio.wait_for(asyncio.gather(first, tasks[1]), 20)
    assert groups == [1, 2]
    await asyncio.to_thread(writer.close)


async def test_every_task_gets_an_error_of_its_own_and_the_thread_lives_on() -> None:
    faults: list[Exception] = [LedgerError("the disk is full"), ZeroDivisionError("a bug")]
    started, both_submitted = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def commit(entries: Sequence[Entry]) -> None:
        loop.call_soon_threadsafe(started.set)
        both_submitted.wait(20)
        if entries[0].reply != "first" and faults:
            raise faults.pop(0)

    writer = GroupCommit(commit, do_nothing)
    first = asyncio.create_task(writer.submit(entry("first")))
    await started.wait()
    tasks = [asyncio.create_task(writer.submit(entry(reply))) for reply in ("a", "b")]
    await asyncio.sleep(0)
    both_submitted.set()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    await first
    assert [str(error) for error in errors] == ["the disk is full"] * 2
    assert errors[0] is not errors[1]
    with pytest.raises(LedgerError, match=r"could not write 1 replies: ZeroDivisionError\('a bug'\)") as caught:
        await writer.submit(entry("c"))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    await writer.submit(entry("d"))
    await asyncio.to_thread(writer.close)


async def test_a_fault_after_a_commit_is_logged_and_harms_no_call(caplog: pytest.LogCaptureFixture) -> None:
    groups: list[int] = []

    def fail() -> None:
        raise ZeroDivisionError("a bug")

    writer = GroupCommit(lambda entries: groups.append(len(entries)), fail)
    await writer.submit(entry("a"))
    await writer.submit(entry("b"))
    await asyncio.to_thread(writer.close)
    assert groups == [1, 1]
    assert "the entries are safe" in caplog.text


def test_an_event_loop_that_was_closed_does_not_hold_up_another() -> None:
    started, proceed = threading.Event(), threading.Event()
    groups: list[int] = []

    def commit(entries: Sequence[Entry]) -> None:
        groups.append(len(entries))
        started.set()
        proceed.wait(20)

    writer = GroupCommit(commit, do_nothing)

    async def submit_and_leave() -> None:
        task = asyncio.create_task(writer.submit(entry("left")))
        await asyncio.sleep(0)
        await asyncio.to_thread(started.wait, 20)
        task.cancel()

    asyncio.run(submit_and_leave())
    proceed.set()
    asyncio.run(writer.submit(entry("next")))
    writer.close()
    assert groups == [1, 1]


def test_closing_twice_or_without_entries_is_fine() -> None:
    writer = GroupCommit(lambda entries: None, do_nothing)
    writer.close()
    writer.close()


async def test_there_is_a_pause_after_every_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(elapsed_s=1000.0, cpu_s=500.0)
    monkeypatch.setattr(
        group_commit, "time", SimpleNamespace(monotonic=lambda: clock.elapsed_s, thread_time=lambda: clock.cpu_s)
    )
    durations = [(0.25, 0.001), (0.25, 0.03)]

    def commit(entries: Sequence[Entry]) -> None:
        elapsed_s, cpu_s = durations.pop(0)
        clock.elapsed_s += elapsed_s
        clock.cpu_s += cpu_s

    pauses: list[float] = []
    writer = GroupCommit(commit, do_nothing)
    monkeypatch.setattr(writer._closing, "wait", pauses.append)
    await writer.submit(entry("a"))
    await writer.submit(entry("b"))
    await asyncio.to_thread(writer.close)
    assert pauses == pytest.approx([0.25, 0.3])


async def test_closing_waits_for_the_commit_that_runs() -> None:
    groups: list[int] = []

    def commit(entries: Sequence[Entry]) -> None:
        closing.wait(20)
        groups.append(sum(range(3_000_000)))  # takes longer than a close that does not wait

    writer = GroupCommit(commit, do_nothing)
    closing = writer._closing
    task = asyncio.create_task(writer.submit(entry("a")))
    await asyncio.sleep(0)
    await asyncio.to_thread(writer.close)
    assert len(groups) == 1
    await task


async def test_the_last_group_is_committed_at_once_on_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause of ten minutes ends when the ledger is closed."""
    monkeypatch.setattr(group_commit, "_MIN_PAUSE_S", 600.0)
    monkeypatch.setattr(group_commit, "_MAX_PAUSE_S", 600.0)
    groups: list[str] = []
    writer = GroupCommit(lambda entries: groups.extend(entry.reply for entry in entries), do_nothing)
    await writer.submit(entry("a"))
    task = asyncio.create_task(writer.submit(entry("b")))
    await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.to_thread(writer.close), 20)
    await task
    assert groups == ["a", "b"]
