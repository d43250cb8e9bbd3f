"""PostgreSQL and a Prefect server on it, in processes that a test may kill and start again on the same port."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from infra.serving.checks import free_port

_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:] if Path("/usr/lib/postgresql").is_dir() else []
needs_postgres = pytest.mark.skipif(
    not _PROGRAMS, reason="there is no PostgreSQL below /usr/lib/postgresql (Debian's package postgresql)"
)


class Service:
    """A command with descendants that is killed and started again."""

    def __init__(
        self, command: Sequence[str], log: Path, environment: dict[str, str], ready: Callable[[], bool]
    ) -> None:
        self._command = command
        self._log = log
        self._environment = environment
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_s: float = 120) -> None:
        """Start it; returns when it is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout_s
        while not self._ready():
            assert self._process.poll() is None, self._log.read_text()[-3000:]
            assert time.monotonic() < deadline, self._log.read_text()[-3000:]
            time.sleep(0.1)

    def kill(self) -> None:
        """kill -9 of all its processes."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def running_postgres() -> Iterator[tuple[Service, str]]:
    """A server with an empty database `prefect`; yields it and the URL for Prefect."""
    programs, port = _PROGRAMS[0], free_port()
    folder = Path(tempfile.mkdtemp(prefix="longmill-postgres-"))
    as_user: list[str] = []
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}

    def run(program: str, *arguments: str) -> None:
        command = [*as_user, str(programs / program), *arguments]
        subprocess.run(command, check=True, env=environment, cwd="/", stdout=subprocess.DEVNULL, timeout=60)

    def is_ready() -> bool:
        command = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        return subprocess.run(command, env=environment, check=False, cwd="/").returncode == 0

    data = folder / "data"
    settings = ["fsync=off", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}"]
    options = [f"-c{setting}" for setting in settings]
    command = [*as_user, str(programs / "postgres"), "-D", str(data), "-p", str(port), *options]
    service = Service(command, folder.with_suffix(".log"), environment, is_ready)
    try:
        run("initdb", "-D", str(data), "-U", "prefect", "--auth=trust", "--no-sync", "--encoding=UTF8")
        service.start()
        run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", "prefect")
        yield service, f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
    finally:
        service.kill()
        shutil.rmtree(folder)
        folder.with_suffix(".log").unlink(missing_ok=True)


@contextlib.contextmanager
def running_prefect(database: str, folder: Path) -> Iterator[tuple[Service, dict[str, str]]]:
    """A Prefect server on a database, ready; yields it and the environment in which it is found."""
    port = free_port()
    environment = {
        **os.environ,
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }

    def is_ready() -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5).close()
        except OSError:
            return False
        return True

    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    log = folder / "prefect-server.log"
    service = Service(command, log, environment | {"PREFECT_API_DATABASE_CONNECTION_URL": database}, is_ready)
    try:
        service.start()
        yield service, environment
    finally:
        service.kill()
