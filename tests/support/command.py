"""The `longmill` command as a person runs it: in a process group and a home of its own, watched from outside.

Every process that a command starts inherits a variable of its environment, by which /proc shows those that are left.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MARK = "LONGMILL_TEST_RUN"

needs_vllm = pytest.mark.skipif(
    not (ROOT / ".venv-serving" / "bin" / "python").exists(),
    reason="there is no .venv-serving, the environment for vLLM; `make setup` makes it",
)


@dataclass(frozen=True)
class Ended:
    """How a command ended, and how long it took."""

    status: int
    out: str
    err: str
    seconds: float


class Command:
    """A running `longmill ARGUMENTS` in `folder`, with `home` as the user's home."""

    def __init__(self, folder: Path, home: Path, *arguments: str) -> None:
        self.running: list[str] = []
        self.mark = uuid.uuid4().hex
        self._started = time.monotonic()
        self._out, self._err = home / f"{self.mark}.out", home / f"{self.mark}.err"
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(home), "COLUMNS": "120", MARK: self.mark}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flows.cli", *arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def when(self, happened: Callable[[], bool], timeout_s: float = 180) -> "Command":
        """Wait until `happened`; fails with the output when the command ends before."""
        deadline = time.monotonic() + timeout_s
        while not happened():
            assert self._process.poll() is None, f"it ended before: {self.ended()}"
            assert time.monotonic() < deadline, f"it did not happen within {timeout_s} s"
            time.sleep(0.02)
        return self

    def signal(self, number: int) -> "Command":
        """What a terminal does on Ctrl-C: the signal goes to the process group; `running` is what lived then."""
        self.running = list(self._alive())
        os.killpg(self._process.pid, number)
        return self

    def ended(self, timeout_s: float = 240) -> Ended:
        """Wait for the end."""
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self._process.wait()
            raise
        seconds = time.monotonic() - self._started
        return Ended(status, self._out.read_text(), self._err.read_text(), seconds)

    def left(self, within_s: float = 15) -> list[str]:
        """Command lines of processes that this command started and that still live after `within_s` seconds."""
        deadline = time.monotonic() + within_s
        while (alive := list(self._alive())) and time.monotonic() < deadline:
            time.sleep(0.1)
        return alive

    def _alive(self) -> Iterator[str]:
        for process in Path("/proc").iterdir():
            try:
                if process.name.isdigit() and f"{MARK}={self.mark}".encode() in (process / "environ").read_bytes():
                    yield (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue  # it ended while we looked, or is a zombie
