"""Processes beside this one that answer lines: programs of this project that read a line and write a line.

They are not copies of this process, so they hold none of its memory and start with few imports. Each starts when it is
needed; one that ends by itself, as by a fault in a library, is started again for the next line.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from infra import errors
from infra.errors import LongmillError

_ROOT = Path(__file__).resolve().parents[2]  # the folder of the packages
_AHEAD = 2  # jobs that wait for a free process
_END_S = 5.0  # for a process to end once it has closed its output

Name = TypeVar("Name")
Job = TypeVar("Job")
Result = TypeVar("Result")


class ProcessEndedError(Exception):
    """A process ended without a reply. `timed_out`: it was ended because it took too long."""

    def __init__(self, status: int, timed_out: bool) -> None:
        super().__init__(f"the process ended with status {status}")
        self.status = status
        self.timed_out = timed_out


class LineProcesses:
    """At most `count` processes of a module; each gets `first_line`, then one line at a time."""

    def __init__(self, module: str, first_line: bytes, count: int) -> None:
        self._module, self._first_line, self._count = module, first_line, count
        self._started: list[subprocess.Popen[bytes]] = []
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes] | None] = queue.SimpleQueue()  # None: yet to be started
        self._closing = False
        for _ in range(count):
            self._idle.put(None)

    def ask(self, line: bytes, timeout_s: float | None = None) -> bytes:
        """The reply to a line, without its end, of the next idle process. Raises ProcessEndedError."""
        process = self._idle.get()
        try:
            if process is None:
                process = self._start()
            reply, timed_out = _reply(process, line, timeout_s)
            if not reply.endswith(b"\n"):
                ended, process = process, None
                raise ProcessEndedError(_status(ended), timed_out)
            return reply[:-1]
        finally:
            self._idle.put(process)

    def ask_json(self, value: Any, timeout_s: float | None = None) -> Any:
        """The reply to a JSON value. Raises ProcessEndedError, and the error that the process has replied with."""
        reply = json.loads(self.ask(json_line(value), timeout_s))
        if "error" in reply:
            raise getattr(errors, reply["error"])(reply["message"])
        return reply

    def in_order(
        self, jobs: Iterable[tuple[Name, Job]], work: Callable[[Job], Result]
    ) -> Generator[tuple[Name, Result], None, None]:
        """`work` of every job, in as many threads as there are processes; results in the order of the jobs.

        Raises what `work` raises. A few jobs are taken ahead of the reader.
        """
        with ThreadPoolExecutor(self._count) as threads:
            begun: deque[tuple[Name, Future[Result]]] = deque()
            try:
                for name, job in jobs:
                    begun.append((name, threads.submit(work, job)))
                    if len(begun) >= self._count + _AHEAD:
                        name, future = begun.popleft()
                        yield name, future.result()
                while begun:
                    name, future = begun.popleft()
                    yield name, future.result()
            except BaseException:  # also an interruption, or a reader that stops early: no job is waited for
                self._kill()
                threads.shutdown(cancel_futures=True)
                raise

    def close(self) -> None:
        """End all processes; they hold nothing that could be lost. No `ask` may be running."""
        self._kill()
        for process in self._started:
            with contextlib.suppress(BrokenPipeError), process:  # closes its pipes and waits for its end
                pass

    def _kill(self) -> None:
        self._closing = True
        for process in self._started:
            process.kill()

    def _start(self) -> subprocess.Popen[bytes]:
        process = start_process(self._module, self._first_line)
        self._started.append(process)
        if self._closing:
            process.kill()
        return process


def start_process(module: str, first_line: bytes) -> subprocess.Popen[bytes]:
    """A process that has its first line. Ctrl-C does not reach it: this process ends it."""
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
        start_new_session=True,
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(first_line)
        process.stdin.flush()
    return process


def answer_lines(prepare: Callable[[Any], Callable[[Any], dict[str, Any]]]) -> None:
    """The other end, which such a program runs: a reply for each line, until there are no more.

    `prepare` gets the first line, and returns what makes the reply to each of the others. A LongmillError that this
    raises is the reply.
    """
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get among the replies
    reply_to = prepare(json.loads(sys.stdin.buffer.readline()))
    for line in sys.stdin.buffer:
        try:
            reply = reply_to(json.loads(line))
        except LongmillError as error:
            reply = {"error": type(error).__name__, "message": str(error)}
        replies.write(json_line(reply))
        replies.flush()


def json_line(value: Any) -> bytes:
    """A JSON value as one line; lone surrogates are escaped."""
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


def _reply(process: subprocess.Popen[bytes], line: bytes, timeout_s: float | None) -> tuple[bytes, bool]:
    """(what the process wrote, whether its time was over)."""
    assert process.stdin is not None
    assert process.stdout is not None
    timed_out = threading.Event()

    def end() -> None:
        timed_out.set()
        process.kill()

    timer = threading.Timer(timeout_s or 0, end)
    timer.daemon = True
    if timeout_s is not None:
        timer.start()
    try:
        process.stdin.write(line)
        process.stdin.flush()
        return process.stdout.readline(), timed_out.is_set()
    except BrokenPipeError:
        return b"", timed_out.is_set()
    finally:
        timer.cancel()


def _status(process: subprocess.Popen[bytes]) -> int:
    """The status of a process that writes no more."""
    try:
        return process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
