"""Child processes that never outlive their parent, whatever ends it.

A `ChildProcess` child runs under a small keeper process, this file run as a script. The keeper holds the read
end of a pipe whose only write end is the parent's: when the parent ends, even by SIGKILL, the pipe closes
and the keeper ends every descendant of the child. The keeper makes itself a subreaper, so grandchildren
that detach (vLLM's engine, Prefect's workers) are still its own. Linux only.
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
_GRACE_S = 10.0


class ChildProcess:
    """A command running under a keeper. Output goes to `log`; `stop` ends it and all its descendants."""

    def __init__(
        self, argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        reader, self._leash = os.pipe()
        with log.open("ab") as output:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", str(Path(__file__).resolve()), str(reader), *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                cwd=cwd,
                pass_fds=(reader,),
                start_new_session=True,  # Ctrl-C reaches the parent alone, which then stops its children in order
            )
        os.close(reader)

    def poll(self) -> int | None:
        """The command's exit status, or None while it runs."""
        return self._keeper.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the command to end; raises subprocess.TimeoutExpired after `timeout` seconds."""
        return self._keeper.wait(timeout)

    def stop(self) -> None:
        """End the command and everything it started; returns when they are gone."""
        if self._leash >= 0:
            os.close(self._leash)
            self._leash = -1
        try:
            self._keeper.wait(_GRACE_S + 5)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()

    def tail(self, lines: int = 20) -> str:
        """The last lines that the command printed."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def __enter__(self) -> "ChildProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _keep(reader: int, argv: list[str]) -> int:
    """Run `argv` until it ends or the leash is let go; then end all that it left behind."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.set_inheritable(reader, False)
    os.set_blocking(reader, False)
    try:
        child = subprocess.Popen(argv)
    except OSError as error:
        print(f"cannot start {argv[0]}: {error}", file=sys.stderr)
        return 127
    while child.poll() is None:
        try:
            if os.read(reader, 1) == b"":
                break
        except BlockingIOError:
            pass
        time.sleep(0.1)
    _end_descendants()
    return child.returncode if child.returncode is not None else -signal.SIGTERM


def _end_descendants() -> None:
    """Ask all descendants to end, then make them; reaps what becomes ours on the way."""
    deadline = time.monotonic() + _GRACE_S
    number = signal.SIGTERM
    while left := _descendants(os.getpid()):
        if time.monotonic() > deadline:
            number = signal.SIGKILL
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        for _ in range(10):
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if not _descendants(os.getpid()):
                return
            time.sleep(0.1)


def _descendants(root: int) -> list[int]:
    """Ids of all live processes below `root`."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    children.setdefault(int(parent), []).append(int(entry.name))
    found, queue = [], [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


if __name__ == "__main__":
    sys.exit(_keep(int(sys.argv[1]), sys.argv[2:]))
