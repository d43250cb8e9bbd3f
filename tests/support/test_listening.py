"""A server of a test that is stopped while clients connect leaves none open: a later test would get the warning."""

import gc
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.support.proxy import running_proxy
from tests.support.stub_server import running_stub

pytestmark = pytest.mark.medium


@pytest.mark.parametrize("kind", ["stub", "proxy"])
def test_a_stop_among_connections_leaves_none_open(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ignored: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda warned: ignored.append(warned.exc_value))
    for _ in range(5):
        with running_stub() as target:
            server: AbstractContextManager[Any] = running_proxy(target.port) if kind == "proxy" else running_stub()
            with server as running:
                stop_connecting = _connect_until_stopped(int(running.url.split(":")[2].split("/")[0]))
            stop_connecting()
        gc.collect()
    assert not ignored


def _connect_until_stopped(port: int) -> Callable[[], None]:
    """Connect again and again in a thread, from one connection before the return on."""
    connected, stopped = threading.Event(), threading.Event()

    def connect() -> None:
        while not stopped.is_set():
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                continue
            connected.set()

    thread = threading.Thread(target=connect)
    thread.start()
    assert connected.wait(10)

    def stop() -> None:
        stopped.set()
        thread.join(10)

    return stop
