"""Prefect as Longmill uses it: a server that lives with its command, retries that can help, keys of our own."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.errors import (
    BalanceError,
    BudgetReached,
    InputError,
    LedgerError,
    LongmillError,
    ModelError,
    PrerequisiteError,
    RecipeError,
    ServingError,
    StoreError,
    YieldError,
)
from infra.recipe import Execution
from infra.running.prefect import _await_health, cache_key, local_server, retry_settings, retrying_can_help
from infra.running.processes import ChildProcess

ROOT = Path(__file__).parents[3]
RUNS_A_SERVER = """
import sys
from pathlib import Path
from infra.running.prefect import local_server
with local_server(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def command_with_server(home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process in `local_server`, and the URL that it printed; it ends when its input does."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_API")}
    command = [sys.executable, "-c", RUNS_A_SERVER, str(home)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def healthy(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/api/health", timeout=5).read()
    except OSError:
        return False
    return True


def gone(url: str, within_s: float = 20) -> bool:
    deadline = time.monotonic() + within_s
    while healthy(url) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not healthy(url)


@pytest.mark.slow
def test_the_local_server_ends_with_the_block_and_keeps_its_files_in_its_home(tmp_path: Path) -> None:
    home = tmp_path / "home #1 100% ?x ü"
    with command_with_server(home) as (process, url):
        assert healthy(url)
        process.communicate("", timeout=60)
        assert process.returncode == 0
        assert not healthy(url)
    assert (home / "prefect.db").exists()
    assert (home / "server.log").exists()
    assert [path.name for path in tmp_path.iterdir()] == [home.name]


@pytest.mark.slow
def test_the_local_server_ends_when_its_command_is_killed(tmp_path: Path) -> None:
    with command_with_server(tmp_path / "home") as (process, url):
        assert healthy(url)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert gone(url)


def test_a_server_that_runs_already_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer_once, args=(server,))
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("PREFECT_API_URL", f"{address}/api")
        with local_server(tmp_path / "home") as url:
            assert url == address
        thread.join()
    assert not (tmp_path / "home").exists()


def answer_once(server: socket.socket) -> None:
    """Answer a request with 401: a server is there, and who may use it is not asked here."""
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def test_a_local_server_after_prefect_was_imported_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prefect", SimpleNamespace())
    with pytest.raises(ServingError, match="imported before"), local_server(tmp_path / "home"):
        raise AssertionError("it must not start")


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "prefect", raising=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(PrerequisiteError, match="cannot make the folder"), local_server(tmp_path / "file" / "home"):
        raise AssertionError("it must not start")


@pytest.mark.medium
def test_a_server_that_dies_or_never_answers_is_told(tmp_path: Path) -> None:
    with ChildProcess([sys.executable, "-c", "print('address in use')"], log=tmp_path / "log") as server:
        server.wait(20)
        with pytest.raises(ServingError, match=r"ended while it started(?s:.*)address in use"):
            _await_health(server, 1)
    with (
        ChildProcess([sys.executable, "-c", "import time; time.sleep(600)"], log=tmp_path / "log") as server,
        pytest.raises(ServingError, match="did not answer within 0 s"),
    ):
        _await_health(server, 1, timeout_s=0.3)


LASTING = [BudgetReached, InputError, RecipeError, PrerequisiteError, BalanceError, YieldError]
PASSING = [StoreError, LedgerError, ModelError, ServingError, LongmillError, OSError]


@pytest.mark.parametrize(("kind", "again"), [(kind, False) for kind in LASTING] + [(kind, True) for kind in PASSING])
def test_only_what_may_pass_is_tried_again(kind: type[Exception], again: bool) -> None:
    assert retrying_can_help(None, None, SimpleNamespace(data=kind("x"))) is again
    assert retrying_can_help(None, None, SimpleNamespace(data=SimpleNamespace(result=kind("x")))) is again


@pytest.mark.slow
@pytest.mark.usefixtures("prefect")
@pytest.mark.parametrize(("kind", "tries"), [(ModelError, 3), (RecipeError, 1)])
def test_prefect_asks_before_it_tries_again(kind: type[Exception], tries: int) -> None:
    from prefect import flow, task

    tried: list[int] = []

    @task
    def fails() -> None:
        tried.append(1)
        raise kind("x")

    @flow
    def runs() -> None:
        fails.with_options(**retry_settings(Execution(task_retries=2, task_retry_delay_s=0)))()

    with pytest.raises(kind):
        runs()
    assert len(tried) == tries


def test_a_task_is_cached_under_its_key_and_never_without_one() -> None:
    context: Any = SimpleNamespace(task=SimpleNamespace(name="sample"))
    assert cache_key(context, {"key": "plan-3-0-8", "bench": "any"}) == "longmill-sample-plan-3-0-8"
    assert cache_key(context, {"key": ""}) is cache_key(context, {}) is None
