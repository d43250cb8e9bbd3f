"""The second signal ends a process at once, and only while it waits for the calls in flight."""

import signal
import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys
from infra.running.stopping import next_signal_ends
number = int(sys.argv[1])
signal.signal(number, lambda *_: print("handled", flush=True))
os.kill(os.getpid(), number)
with next_signal_ends():
    if sys.argv[2] == "within":
        os.kill(os.getpid(), number)
os.kill(os.getpid(), number)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_within_the_block_ends_the_process(number: int) -> None:
    command = [sys.executable, "-c", SCRIPT, str(int(number))]
    within = subprocess.run([*command, "within"], capture_output=True, text=True, timeout=60, check=False)
    assert (within.returncode, within.stdout) == (-number, "handled\n")
    without = subprocess.run([*command, "without"], capture_output=True, text=True, timeout=60, check=False)
    assert (without.returncode, without.stdout) == (0, "handled\nhandled\n")
