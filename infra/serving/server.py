"""One server that is looked after: started, started again when it ends or hangs, ended with the run.

A server that ends while it starts for the first time is an error, since its settings are wrong. Later it is started
again on its port, at most MOST_RESTARTS times, with the adapters that it had. Its record (records.py) tells the clients
in all processes to wait meanwhile. A server that waits is started when a client has a call for it: its port, and so
its URL, are there before. Leaves out: which command starts it (command.py).
"""

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from infra.errors import ServingError
from infra.running import progress
from infra.running.processes import ChildProcess
from infra.serving import local_http, records
from infra.serving.adapters import post_adapter
from infra.serving.hang_watch import HangWatch
from infra.serving.records import ServerRecord

MOST_RESTARTS = 3
RESTART_STAGE = "servers"  # under which restarts are reported, so that a log of a run has each of them
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How a server is started and watched."""

    section: str  # of the recipe: "policy" or "judge"
    name: str  # for messages
    stage: str  # under which its progress is reported
    model: str  # its name in calls
    command: Sequence[str]
    environment: Mapping[str, str]
    port: int
    log: Path
    start_timeout_s: float
    hang_timeout_s: float
    api_key: str | None = None
    shared: str = ""  # as in ServerRecord
    restart_window_s: float = float("inf")  # restarts that are longer ago do not count


class Server:
    """A server's process, and the thread that looks after it. `running_server` makes and ends it."""

    def __init__(self, settings: ServerSettings, temporary: str, *, waits: bool = False) -> None:
        """`waits`: it is started at the first call, or by `wait_until_up`; else now."""
        self.settings = settings
        self._temporary = temporary  # vLLM does not remove its sockets and other files
        self._lock = threading.Lock()  # over `_process` and the record: whoever stops or starts the server has it
        self._stopping = threading.Event()
        self._needed = threading.Event()  # of a server that waits: it is to start, whether a call is there or not
        self._settled = threading.Event()  # of a server that waited: it is up, or has failed
        self._restart_times: list[float] = []
        self._thread: threading.Thread | None = None
        self._watch: HangWatch | None = None
        self._record = ServerRecord(settings.port, "waiting" if waits else "starting", shared=settings.shared)
        records.forget_earlier(settings.port)
        records.write_record(self._record)
        self._process: ChildProcess | None = None
        if waits:
            self._begin_thread(self._start_when_called)
        else:
            self._process = self._started_process()

    @property
    def url(self) -> str:
        """The base URL of the server, ending in /v1."""
        return self._record.url

    @property
    def failure(self) -> str:
        """Why the server was given up; "" while it is looked after."""
        return self._record.message

    def wait_until_up(self) -> None:
        """Wait for the first response, then look after the server. Raises ServingError with the end of its log."""
        if self._thread is not None:
            self._wait_until_settled()
            return
        self._wait_for_response()
        self._become_up()
        report_start(self.settings)
        self._settled.set()
        self._begin_thread(self._look_after)

    def stop(self) -> None:
        """End the server and all its processes."""
        self._stopping.set()
        records.remove_record(self.settings.port)  # before its port is free for another server
        with self._lock:
            if self._process is not None:
                self._process.stop()
        if self._watch is not None:
            self._watch.stop()
        if self._thread is not None:
            self._thread.join(10)

    def _begin_thread(self, work: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=work, name=f"server-{self.settings.port}", daemon=True)
        self._thread.start()

    def _wait_until_settled(self) -> None:
        """Wait until a server that waited is up. Raises ServingError when it could not be started."""
        self._needed.set()
        self._settled.wait(self.settings.start_timeout_s + 60)
        if self.failure:
            raise ServingError(self.failure)

    def _start_when_called(self) -> None:
        """Wait for a call, start the server, then look after it."""
        settings = self.settings
        while not (self._needed.is_set() or records.is_called(settings.port)):
            if self._stopping.wait(_POLL_S):
                return
        try:
            self._write(replace(self._record, state="starting"))
            report_starting(settings)
            with self._lock:
                if self._stopping.is_set():
                    return
                self._process = self._started_process()
            self._wait_for_response()
            self._become_up()
        except Exception as error:  # clients wait for this thread: it must tell them that there is nothing to wait for
            if not self._stopping.is_set():
                self._fail(str(error))
            self._settled.set()
            return
        report_start(settings)
        self._settled.set()
        self._look_after()

    def _started_process(self) -> ChildProcess:
        settings = self.settings
        environment = {**settings.environment, "TMPDIR": self._temporary}
        return ChildProcess(settings.command, log=settings.log, env=environment)

    def _wait_for_response(self) -> None:
        """Wait until the server lists its models. Raises ServingError when it ends before, or takes too long."""
        settings, process = self.settings, self._process
        assert process is not None
        deadline = time.monotonic() + settings.start_timeout_s
        while time.monotonic() < deadline and not self._stopping.is_set():
            if (status := process.poll()) is not None:
                raise ServingError(
                    f"{settings.name} ended with status {status} while it started; "
                    f"the end of {settings.log}:\n{process.tail()}"
                )
            with contextlib.suppress(OSError):
                local_http.get(f"{self.url}/models", 5, settings.api_key)
                return
            time.sleep(_POLL_S)
        raise ServingError(
            f"{settings.name} did not answer within {settings.section}.serve.start_timeout_s = "
            f"{settings.start_timeout_s:.0f} s; see {settings.log}"
        )

    def _become_up(self) -> None:
        """Let clients call the server, and watch it."""
        settings = self.settings
        self._write(replace(self._record, state="up"))
        self._watch = HangWatch(settings.port, settings.model, settings.hang_timeout_s, settings.api_key)

    def _look_after(self) -> None:
        try:
            while not self._stopping.wait(_POLL_S):
                cause = self._fault()
                if cause and not self._restart(cause):
                    return
        except Exception as error:  # clients wait for this thread: it must tell them that there is nothing to wait for
            self._give_up(f"could not be started again ({type(error).__name__}: {error})")

    def _fault(self) -> str:
        """What is wrong with the server, for a message; "" when nothing is."""
        status = self._process.poll() if self._process else None
        if status is not None:
            return f"ended with status {status} while it was needed"
        if self._watch is not None and self._watch.hung:
            return f"stood still for {self.settings.hang_timeout_s:.0f} s, although it runs"
        return ""

    def _restart(self, cause: str) -> bool:
        """Start the server again until it responds; False when it is given up or is to end."""
        settings = self.settings
        while cause:
            if self._watch is not None:
                self._watch.stop()
            recent = [moment for moment in self._restart_times if time.monotonic() - moment < settings.restart_window_s]
            if len(recent) >= MOST_RESTARTS:
                self._give_up(cause)
                return False
            self._restart_times.append(time.monotonic())
            self._write(replace(self._record, state="restarting", restarts=self._record.restarts + 1))
            count = f"{len(recent) + 1} of {MOST_RESTARTS}"
            progress.note(RESTART_STAGE, f"{settings.name} {cause}; it is started again ({count})")
            with self._lock:
                if self._stopping.is_set():
                    return False
                if self._process is not None:
                    self._process.stop()
                self._process = self._started_process()
            cause = self._fault_of_start()
            if self._stopping.is_set():
                return False
        progress.note(RESTART_STAGE, f"{settings.name} answers again on port {settings.port}")
        self._become_up()
        return True

    def _fault_of_start(self) -> str:
        """Wait until the server responds again and has its adapters; returns what went wrong."""
        try:
            self._wait_for_response()
            for adapter in records.read_adapters(self.settings.port):
                post_adapter(self.url, adapter, self.settings.api_key)
        except ServingError as error:
            return f"could not be started again ({str(error).splitlines()[0]})"
        return ""

    def _give_up(self, cause: str) -> None:
        settings = self.settings
        message = (
            f"{settings.name} {cause}, and it was started again {len(self._restart_times)} times already. "
            f"What was paid for is kept: find the cause in its log, then run again to go on. "
            f"The end of {settings.log}:\n{self._process.tail() if self._process else ''}"
        )
        self._fail(message)
        progress.note(RESTART_STAGE, f"{settings.name} {cause}; given up")

    def _fail(self, message: str) -> None:
        with self._lock:
            if self._process is not None:
                self._process.stop()
        self._write(replace(self._record, state="failed", message=message))

    def _write(self, record: ServerRecord) -> None:
        with self._lock:
            if not self._stopping.is_set():
                self._record = record
                records.write_record(record)


def report_starting(settings: ServerSettings) -> None:
    """Say that a server starts."""
    name = "" if settings.section == "policy" else f"{settings.name} is "
    progress.note(settings.stage, f"{name}starting")


def report_start(settings: ServerSettings) -> None:
    """Say that a server has started."""
    if settings.section == "policy":
        progress.advance(settings.stage)
        progress.note(settings.stage, f"answers on port {settings.port}")
    else:
        progress.note(settings.stage, f"{settings.name} answers on port {settings.port}")


@contextlib.contextmanager
def running_server(settings: ServerSettings, *, waits: bool = False) -> Iterator[Server]:
    """Start a server, at once or when it is called, and end it with the block."""
    with tempfile.TemporaryDirectory(prefix="longmill-", ignore_cleanup_errors=True) as temporary:
        server = Server(settings, temporary, waits=waits)
        try:
            yield server
        finally:
            server.stop()
