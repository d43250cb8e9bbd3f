"""Child processes end with their parent, and their own children end with them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.running.processes import ChildProcess

FAMILY = (
    "import subprocess, sys, time, os;"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True);"
    "open(sys.argv[1], 'w').write(f'{os.getpid()} {child.pid}'); time.sleep(600)"
)


def _wait_for(path: Path) -> list[int]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.exists() and (text := path.read_text()).count(" "):
            return [int(pid) for pid in text.split()]
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


def _gone(pid: int) -> bool:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_stop_ends_the_command_and_its_detached_children(tmp_path: Path) -> None:
    with ChildProcess([sys.executable, "-c", FAMILY, str(tmp_path / "pids")], log=tmp_path / "log"):
        pids = _wait_for(tmp_path / "pids")
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    assert all(_gone(pid) for pid in pids)


def test_killing_the_parent_ends_the_whole_family(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from infra.running.processes import ChildProcess;"
        f"child = ChildProcess([sys.executable, '-c', {FAMILY!r}, {str(tmp_path / 'pids')!r}],"
        f" log=Path({str(tmp_path / 'log')!r})); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    pids = _wait_for(tmp_path / "pids")
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert all(_gone(pid) for pid in pids)


def test_exit_status_and_output_are_kept(tmp_path: Path) -> None:
    child = ChildProcess([sys.executable, "-c", "print('last words'); raise SystemExit(7)"], log=tmp_path / "log")
    assert child.wait(20) == 7
    assert child.tail() == "last words"
    child.stop()


def test_a_command_that_cannot_start_says_so(tmp_path: Path) -> None:
    child = ChildProcess(["/no/such/command"], log=tmp_path / "log")
    assert child.wait(20) == 127
    assert "/no/such/command" in child.tail()
    with pytest.raises(ProcessLookupError):
        os.kill(child._supervisor.pid, 0)
    child.stop()
