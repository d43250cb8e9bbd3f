"""Every end of a command leaves a status and its whole output, and never hangs on a thread that is still waiting."""

import subprocess
import sys

import pytest

from infra.errors import InputError

pytestmark = pytest.mark.medium

WAITING_THREAD = "import threading; threading.Thread(target=threading.Event().wait).start()\n"
BUFFERED_LOG = """
import logging, logging.handlers, sys
target = logging.StreamHandler(sys.stdout)
logging.getLogger("buffered").addHandler(logging.handlers.MemoryHandler(100, target=target))
logging.getLogger("buffered").warning("closed")
"""


def end_of(work: str) -> subprocess.CompletedProcess[str]:
    """Run `def work()` with this body as a command would."""
    script = f"""
{BUFFERED_LOG}{WAITING_THREAD}
import os, signal, sys
from infra.errors import InputError
from flows.cli.ending import run_to_the_end
def work():
    print("worked", end="")
    {work}
run_to_the_end(work)
"""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("work", "status"),
    [
        ("pass", 0),
        ("sys.exit(0)", 0),
        ("sys.exit(None)", 0),
        ("sys.exit(3)", 3),
        ("sys.exit('words')", 1),
    ],
)
def test_the_status_is_the_verbs_and_what_it_printed_is_whole(work: str, status: int) -> None:
    ended = end_of(work)
    assert (ended.returncode, ended.stdout) == (status, "workedclosed\n")


def test_a_deliberate_error_is_one_line_and_its_own_status() -> None:
    ended = end_of("raise InputError('questions.jsonl: row 3 has no question; add one')")
    assert ended.returncode == InputError.exit_code
    assert ended.stderr == "error: questions.jsonl: row 3 has no question; add one\n"
    assert "closed" in ended.stdout


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_says_that_nothing_is_lost(number: str) -> None:
    ended = end_of(f"os.kill(os.getpid(), signal.{number})")
    assert ended.returncode == 130
    assert ended.stderr == "interrupted: what was paid for is kept, and the same command goes on from there\n"
