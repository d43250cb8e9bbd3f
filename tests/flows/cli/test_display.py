"""Progress: bars on a terminal, a few plain lines where nothing can be drawn again."""

import io

import pytest
from rich.console import Console

from flows.cli import display
from flows.cli.display import LINE_INTERVAL_S, PlainProgress, progress_display
from infra.running import progress
from infra.running.progress import ProgressUpdate


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def plain(clock: Clock) -> tuple[PlainProgress, io.StringIO]:
    text = io.StringIO()
    return PlainProgress(Console(file=text), clock), text


def test_without_a_terminal_a_stage_is_one_line_when_it_ends() -> None:
    clock = Clock()
    lines, text = plain(clock)
    lines.draw(ProgressUpdate("sample", total=80))
    for _ in range(80):
        clock.now += 0.125
        lines.draw(ProgressUpdate("sample", done=1))
    assert text.getvalue().splitlines() == ["sample          80/80  0:00:10"]


def test_without_a_terminal_a_long_stage_prints_a_line_once_in_a_while() -> None:
    clock = Clock()
    lines, text = plain(clock)
    for _ in range(5):
        clock.now += LINE_INTERVAL_S / 2
        lines.draw(ProgressUpdate("plan", done=1000))
    assert [line.split() for line in text.getvalue().splitlines()] == [
        ["plan", "3,000", "0:01:00"],
        ["plan", "5,000", "0:02:00"],
    ]


def test_without_a_terminal_notes_are_printed_until_the_first_step_alone() -> None:
    lines, text = plain(Clock())
    lines.draw(ProgressUpdate("train", note="starting"))
    lines.draw(ProgressUpdate("train", total=2))
    for loss in (0.5, 0.4):
        lines.draw(ProgressUpdate("train", done=1))
        lines.draw(ProgressUpdate("train", note=f"loss {loss}"))
    assert [line.split()[1] for line in text.getvalue().splitlines()] == ["starting", "2/2"]


def test_a_stage_that_begins_again_is_counted_again() -> None:
    lines, text = plain(Clock())
    for _ in range(2):
        lines.draw(ProgressUpdate("evaluate", total=8))
        lines.draw(ProgressUpdate("evaluate", done=8))
    assert [line.split()[1] for line in text.getvalue().splitlines()] == ["8/8", "8/8"]


def test_a_stage_of_unknown_length_that_has_paused_is_counted_from_the_beginning() -> None:
    clock = Clock()
    lines, text = plain(clock)
    lines.draw(ProgressUpdate("plan", done=16))
    clock.now += LINE_INTERVAL_S * 2  # the next round
    lines.draw(ProgressUpdate("plan", done=16))
    assert text.getvalue() == ""


def test_on_a_terminal_every_stage_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(display, "errors", Console(file=text, force_terminal=True, width=100))
    with progress_display():
        progress.expect("sample", 80)
        progress.advance("sample", 80)
        progress.advance("plan", 16)
        progress.note("train", "loss 0.225")
    last = text.getvalue().rpartition("\x1b[2K")[2]
    assert "80/80" in last
    assert "loss 0.225" in text.getvalue()


def test_the_figures_of_a_run_stand_under_its_bars_and_in_a_log_once_in_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = io.StringIO()
    monkeypatch.setattr(display, "errors", Console(file=text, force_terminal=True, width=100))
    with progress_display():
        progress.expect("sample", 80)
        progress.show_figures("379 questions a minute")
    last = text.getvalue().rpartition("\x1b[2K")[2].splitlines()
    assert "0/80" in last[0] and "379 questions a minute" in last[1]
    clock = Clock()
    lines, log = plain(clock)
    for _ in range(5):
        clock.now += LINE_INTERVAL_S / 2
        lines.draw(ProgressUpdate("", note="379 questions a minute", figures=True))
    lines.draw(ProgressUpdate("", note="", figures=True))
    assert log.getvalue().splitlines() == ["379 questions a minute"] * 2


def test_nothing_is_printed_after_the_display_has_ended(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_display():
        pass
    progress.note("late", "starting")
    assert capsys.readouterr().err == ""


def test_without_a_terminal_a_wait_is_printed_once_in_a_while() -> None:
    clock = Clock()
    lines, text = plain(clock)
    lines.draw(ProgressUpdate("sample", total=4))
    lines.draw(ProgressUpdate("sample", done=1))
    for _ in range(3):
        lines.draw(ProgressUpdate("sample", note="waits 40 s", waits=True))
        lines.draw(ProgressUpdate("sample", note="", waits=True))
        clock.now += LINE_INTERVAL_S / 2
    assert [line.split(maxsplit=1)[1] for line in text.getvalue().splitlines()] == ["waits 40 s"] * 2


def test_what_a_run_decides_by_itself_is_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_display():
        progress.say("policy: seed is left out [by the server]")
    assert "policy: seed is left out [by the server]" in capsys.readouterr().err


def test_a_narrow_table_breaks_no_short_value() -> None:
    columns = ["plan", "recipe", "planned (UTC)", "questions", "done", "running", "failed", "waiting", "dataset"]
    columns.append("built now by")
    rows = [["2daee3fc", "a-recipe-of-a-long-name", "2026-11-29 09:40", "256", "7", "0", "0", "0", "published"]]
    rows[0].append("build demo on gpu-box-1")
    console = Console(width=80, file=io.StringIO())
    console.print(display.table("plans", columns, rows))
    assert isinstance(console.file, io.StringIO)
    drawn = console.file.getvalue()
    assert max(map(len, drawn.splitlines())) <= 80
    for value in ("2daee3fc", "questions", "running", "waiting", "published"):
        assert value in drawn
