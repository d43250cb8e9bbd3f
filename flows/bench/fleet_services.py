"""The services of a fleet on one machine: PostgreSQL, a Prefect server that can be restarted, an S3 server."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from infra.running.processes import ChildProcess
from infra.serving.checks import free_port

_S3_KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_WAIT_S = 120.0


@dataclass(frozen=True)
class Database:
    """A database of its own for one Prefect server."""

    url: str
    file: Path | None = None  # of SQLite
    psql: tuple[str, ...] = ()  # the command that reads one value from PostgreSQL

    def megabytes(self) -> float:
        """Its size."""
        if self.file is not None:
            return round(self.file.stat().st_size / 1e6, 1)
        size = subprocess.run([*self.psql, "select pg_database_size('prefect')"], check=True, stdout=subprocess.PIPE)
        return round(int(size.stdout) / 1e6, 1)


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[Database]:
    """PostgreSQL in `folder`, reached through its socket; SQLite where it is not installed."""
    if shutil.which("initdb") is None or shutil.which("postgres") is None:
        file = folder / "prefect.db"
        yield Database(f"sqlite+aiosqlite:///{file}", file)
        return
    as_user = ("runuser", "-u", "postgres", "--") if os.geteuid() == 0 else ()  # it refuses to run as root
    place = folder / "postgres"
    place.mkdir()
    if as_user:
        folder.chmod(0o755)
        shutil.chown(place, "postgres")
    data, port = place / "data", free_port()
    subprocess.run(
        [*as_user, "initdb", "-D", str(data), "-U", "prefect", "--auth=trust"],
        check=True,
        cwd=place,
        stdout=subprocess.DEVNULL,
    )
    command = [*as_user, "postgres", "-D", str(data), "-k", str(place), "-h", "127.0.0.1", "-p", str(port)]
    psql = ("psql", "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", "-d", "postgres", "-Atc")
    with ChildProcess(command, log=folder / "postgres.log", cwd=place):
        deadline = time.monotonic() + _WAIT_S
        while subprocess.run([*psql, "create database prefect"], check=False, capture_output=True).returncode:
            if time.monotonic() > deadline:
                raise SystemExit((folder / "postgres.log").read_text()[-2000:])
            time.sleep(0.5)
        yield Database(f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect", psql=psql)


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[tuple[str, str]]:
    """moto's server with a bucket; yields the store's URL and the file that has a line for each request."""
    import fsspec

    port = free_port()
    environment = {**_S3_KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    os.environ.update(environment)
    log = folder / "s3.log"
    with ChildProcess([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], log=log):
        _await(f"http://127.0.0.1:{port}/moto-api/", log)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("fleet")
        yield "s3://fleet/mill", str(log)


class PrefectServer:
    """A Prefect server on a port that stays the same when it is restarted; `environment` is for those who use it."""

    def __init__(self, folder: Path, database: str) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}/api"
        common = {
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
        self._own = {**os.environ, **common, "PREFECT_API_DATABASE_CONNECTION_URL": database}
        self.environment = {
            **os.environ,
            **common,
            "PREFECT_API_URL": self.url,
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        }
        self._server: ChildProcess | None = None

    def __enter__(self) -> "PrefectServer":
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.stop()

    def restart(self) -> float:
        """End the server and start it again; returns the seconds that it was away."""
        start = time.monotonic()
        assert self._server is not None
        self._server.stop()
        self._start()
        return round(time.monotonic() - start, 1)

    def _start(self) -> None:
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self._port)]
        log = self._folder / "server.log"
        self._server = ChildProcess(command, log=log, env=self._own)
        _await(f"{self.url}/health", log)


def _await(url: str, log: Path) -> None:
    """Return when a server answers. Raises SystemExit with the end of its log when it does not."""
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).read()  # noqa: S310
            return
        except OSError:
            if time.monotonic() > deadline:
                raise SystemExit(log.read_text()[-2000:]) from None
            time.sleep(0.5)
