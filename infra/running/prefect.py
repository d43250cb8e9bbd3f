"""Prefect, as Longmill uses it: a local server for one command, and how a task is set up.

Prefect schedules, retries and shows; the store keeps the record. Task results are small JSON references
under a key of our own, so Prefect's cache saves time and never decides what is paid for. `local_server` must
be entered before `prefect` is first imported: Prefect reads its settings at import.
"""

import contextlib
import fcntl
import http.client
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from infra.errors import (
    BalanceError,
    BudgetReached,
    BusyError,
    InputError,
    JudgeError,
    PrerequisiteError,
    RecipeError,
    RefusedError,
    ServingError,
    StoppedError,
    YieldError,
)
from infra.recipe import Execution
from infra.running.processes import ChildProcess
from infra.urls import without_user

if TYPE_CHECKING:
    from prefect.context import TaskRunContext

Value = TypeVar("Value")

TASK_SETTINGS: Mapping[str, Any] = {
    "persist_result": True,
    "result_serializer": "json",  # the default is a pickle: whoever writes the results could run code
}

# A server that lives with one command schedules nothing and watches over no worker; and it writes task runs down
# in groups. SQLite refuses one of two transactions that write at once, and Prefect's client then waits two seconds.
_QUIET_SERVER = {
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_FOREMAN_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "10",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "10",
    "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "5",
}

# A server whose database is away answers 500, at which Prefect's client would end the flow run. With this it asks
# again, as it does while the server itself is away: five times within a minute.
PATIENCE = {"PREFECT_CLIENT_RETRY_EXTRA_CODES": "500"}

TAG = "longmill"  # of the flow runs of a server that others use too
_HEARTBEATS = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30"  # seconds; runs with the tag must send them (remote_runs.py)

# The command line shows progress and errors itself; the log of a run is on its page.
_QUIET_CONSOLE = "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL"

_ANSWER_S = 10.0  # that a server at PREFECT_API_URL may take to answer

# Trying again cannot help.
LASTING_ERRORS = (
    BudgetReached,
    JudgeError,
    RefusedError,
    YieldError,
    InputError,
    RecipeError,
    PrerequisiteError,
    BalanceError,
    BusyError,
    StoppedError,
)


def live(value: Value) -> Value:
    """A live object as a task's argument: Prefect hands it to the task as it is, and neither copies nor stores it."""
    from prefect.utilities.annotations import quote

    return cast(Value, quote(value))


def retry_settings(execution: Execution) -> dict[str, Any]:
    """Options of a task that runs again when a server was away, and not when trying again cannot help."""
    return {
        "retries": execution.task_retries,
        "retry_delay_seconds": execution.task_retry_delay_s,
        "retry_condition_fn": retrying_can_help,
    }


def retrying_can_help(_task: Any, _run: Any, state: Any) -> bool:
    error = getattr(state.data, "result", state.data)  # the exception itself, or the record that holds it
    return not isinstance(error, LASTING_ERRORS)


def cache_key(context: "TaskRunContext", parameters: dict[str, Any]) -> str | None:
    """The task's own `key` argument, with the task's name; a task run without a key is not cached."""
    key = parameters.get("key")
    return f"longmill-{context.task.name.split(' ')[0]}-{key}" if key else None


@contextlib.contextmanager
def local_server(home: Path) -> Iterator[str]:
    """Run a Prefect server on loopback until the block ends, unless PREFECT_API_URL names one already.

    Yields the URL of its pages. Its database, results and log lie under `home`.
    """
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    if url := os.environ.get("PREFECT_API_URL"):
        require_server(url)
        if not os.environ.get("LONGMILL_DEBUG"):
            os.environ.setdefault(*_QUIET_CONSOLE)
        os.environ.setdefault(*_HEARTBEATS)
        from prefect import tags

        with tags(TAG):
            yield url.removesuffix("/api")
        return
    if "prefect" in sys.modules:
        raise ServingError("prefect was imported before its local server was started; this is a bug in Longmill")
    from infra.serving.checks import free_port

    port = free_port()
    settings = _settings(home, port)
    os.environ.update(settings)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    # The database's URL is relative to the folder: SQLAlchemy takes a `?` or `%` of a path for a part of the URL.
    database = {"PREFECT_API_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:///prefect.db"}
    environment = os.environ | database
    folder = Path(settings["PREFECT_HOME"])
    with contextlib.ExitStack() as stack:
        with _starts_alone(folder):
            server = stack.enter_context(ChildProcess(command, log=home / "server.log", env=environment, cwd=folder))
            _await_health(server, port)
        try:
            with without_heartbeats():  # who would look at them dies with this process
                yield f"http://127.0.0.1:{port}"
        finally:
            _send_last_events()


@contextlib.contextmanager
def _starts_alone(folder: Path) -> Iterator[None]:
    """Let one server at a time begin: two that make the tables of a new SQLite database at once fail each other."""
    with (folder / "starting.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def require_server(api_url: str) -> None:
    """Raise PrerequisiteError unless a server answers at PREFECT_API_URL, whatever it answers."""
    try:
        urllib.request.urlopen(f"{api_url.rstrip('/')}/health", timeout=_ANSWER_S).close()  # noqa: S310
    except urllib.error.HTTPError:
        return
    except (OSError, ValueError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", None) or error
        raise PrerequisiteError(
            f"PREFECT_API_URL={without_user(api_url)} does not answer ({cause}): start that Prefect server, or have "
            "one started for this command alone: unset PREFECT_API_URL"
        ) from error


@contextlib.contextmanager
def without_heartbeats() -> Iterator[None]:
    """Let flow runs in the block send no heartbeats: a run's end waits for the thread that does, up to a second."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    if PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value() is None:
        yield
        return
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


class FlowTurns:
    """Lets the flow runs of several threads tell the server of their beginning and end one after the other.

    Runs that begin or end at once would meet in SQLite, which refuses one of them, and Prefect's client then waits
    two seconds before it tries again. Call the flow within `run`, and do the flow's work within `work`:

        turns = FlowTurns()

        @flow
        def shard(index):
            with turns.work():
                ...

        with turns.run():
            shard(3)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def run(self) -> Iterator[None]:
        """Around the call of a flow: while it begins and ends, no other one does."""
        with self._lock:
            yield

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """Inside of the flow, once it has begun: others may begin or end."""
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()


def _send_last_events() -> None:
    """Send what Prefect's background workers still hold, before their server goes away."""
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=5)
    EventsWorker.drain_all(timeout=5)


def _settings(home: Path, port: int) -> dict[str, str]:
    folder = home.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PrerequisiteError(
            f"{home}: cannot make the folder ({error.strerror}); run where you may write"
        ) from error
    return {
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        **dict([_QUIET_CONSOLE]),
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",  # it is this installation's
        "DO_NOT_TRACK": "1",
        **_QUIET_SERVER,
    }


def _await_health(server: ChildProcess, port: int, timeout_s: float = 180) -> None:
    deadline = time.monotonic() + timeout_s
    import prefect.flow_engine  # noqa: F401  # a second of processor, while the server starts on another core

    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ServingError(f"the Prefect server ended while it started; the end of {server.log}:\n{server.tail()}")
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5).read()
            return
        time.sleep(0.3)
    raise ServingError(f"the Prefect server did not answer within {timeout_s:.0f} s; see {server.log}")


def emit(event: str, resource: str, name: str, payload: dict[str, Any]) -> None:
    """Send an event to the server, on which automations act. The event is lost where the server is away."""
    from prefect.events import emit_event

    emit_event(event, resource={"prefect.resource.id": resource, "prefect.resource.name": name}, payload=payload)
