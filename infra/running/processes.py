"""Child processes that end when their parent ends, however it ends.

The command of a `ChildProcess` runs under a small supervisor process, which is this file run as a script. The
supervisor holds the read end of a pipe, and the parent the only write end. When the parent ends, even by SIGKILL,
the system closes the write end; the supervisor then ends all descendants of the command. It is a subreaper, so
descendants that detach (vLLM's engine, Prefect's workers) stay its own. Linux only.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 10.0  # between SIGTERM and SIGKILL
_POLL_S = 0.1


class ChildProcess:
    """A command that runs under a supervisor. Its output is appended to `log`; `stop` ends it and its descendants."""

    def __init__(
        self, argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        read_end, self._write_end = os.pipe()
        with log.open("ab") as output:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", str(Path(__file__).resolve()), str(read_end), *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                cwd=cwd,
                pass_fds=(read_end,),
                start_new_session=True,  # Ctrl-C reaches the parent alone, which then stops its children in order
            )
        os.close(read_end)

    def poll(self) -> int | None:
        """The exit status of the command, or None while it runs."""
        return self._supervisor.poll()

    @property
    def supervisor(self) -> int:
        """The process id of the supervisor, above the command."""
        return self._supervisor.pid

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the command to end; raises subprocess.TimeoutExpired after `timeout` seconds."""
        return self._supervisor.wait(timeout)

    def stop(self) -> None:
        """End the command and all its descendants; returns when they have ended."""
        if self._write_end >= 0:
            os.close(self._write_end)
            self._write_end = -1
        try:
            self._supervisor.wait(_GRACE_S + 5)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            self._supervisor.wait()

    def tail(self, lines: int = 20) -> str:
        """The last lines of the log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def __enter__(self) -> "ChildProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _supervise(read_end: int, argv: list[str]) -> int:
    """Run `argv` until it ends or the pipe is closed, then end all its descendants. Returns its exit status."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.set_inheritable(read_end, False)
    os.set_blocking(read_end, False)
    try:
        child = subprocess.Popen(argv)
    except OSError as error:
        print(f"cannot start {argv[0]}: {error}", file=sys.stderr)
        return 127
    while child.poll() is None:
        try:
            if os.read(read_end, 1) == b"":  # the write end is closed
                break
        except BlockingIOError:
            pass
        time.sleep(_POLL_S)
    _end_descendants()
    return child.returncode if child.returncode is not None else -signal.SIGTERM


def _end_descendants() -> None:
    """Send SIGTERM to all descendants, after a while SIGKILL, until none is left; reaps those that end."""
    deadline = time.monotonic() + _GRACE_S
    signal_number = signal.SIGTERM
    while pids := _descendants(os.getpid()):
        if time.monotonic() > deadline:
            signal_number = signal.SIGKILL
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_number)
        for _ in range(10):
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if not _descendants(os.getpid()):
                return
            time.sleep(_POLL_S)


def _descendants(root: int) -> list[int]:
    """The ids of all live processes below `root`."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):  # the process has ended since
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    children.setdefault(int(parent), []).append(int(entry.name))
    descendants: list[int] = []
    parents = [root]
    while parents:
        pids = children.get(parents.pop(), [])
        descendants += pids
        parents += pids
    return descendants


if __name__ == "__main__":
    sys.exit(_supervise(int(sys.argv[1]), sys.argv[2:]))
