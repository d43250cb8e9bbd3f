"""The log of a run: our own errors are a line, other errors keep their traceback, ended tasks are left out."""

import logging

import pytest

from infra.errors import ModelError
from infra.running import progress
from infra.running.run_page import shorten_logs

HERE = {"send_to_api": False}  # there is no flow run


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    shorten_logs()
    shorten_logs()  # which adds nothing
    caplog.set_level(logging.INFO)
    return caplog


def log_error(error: Exception) -> None:
    try:
        work(error)
    except Exception:
        logging.getLogger("prefect.task_runs").exception("Task run failed", extra=HERE)


def work(error: Exception) -> None:
    raise error


def test_an_error_of_ours_is_one_line_without_a_traceback(lines: pytest.LogCaptureFixture) -> None:
    log_error(ModelError("15 calls failed"))
    (record,) = lines.records
    assert record.getMessage() == "ModelError: 15 calls failed"
    assert record.exc_info is None
    assert "Traceback" not in lines.text


def test_any_other_error_keeps_its_traceback(lines: pytest.LogCaptureFixture) -> None:
    log_error(ValueError("a bug"))
    assert "Traceback" in lines.text


def test_with_debug_everything_is_there(lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGMILL_DEBUG", "1")
    log_error(ModelError("15 calls failed"))
    logging.getLogger("prefect.task_runs").info("Finished in state Completed()", extra=HERE)
    assert "Traceback" in lines.text
    assert len(lines.records) == 2


def test_the_end_of_a_task_is_no_line_and_that_of_a_flow_does_not_repeat_the_error(
    lines: pytest.LogCaptureFixture,
) -> None:
    logging.getLogger("prefect.task_runs").info("Finished in state Completed()", extra=HERE)
    failed = "Finished in state Failed('Flow run encountered an exception: 15 calls failed')"
    logging.getLogger("prefect.flow_runs").info(failed, extra=HERE)
    logging.getLogger("prefect.flow_runs").info("Finished in state Completed()", extra=HERE)
    assert [record.getMessage() for record in lines.records] == [
        "Finished in state Failed",
        "Finished in state Completed",
    ]


def test_what_is_said_goes_to_the_log_too() -> None:
    said_lines: list[str] = []
    with progress.also_to(said_lines.append):
        progress.say("the other build has ended")
        progress.note("sample", "a note is for the display alone")
    progress.say("after it")
    assert said_lines == ["the other build has ended"]
