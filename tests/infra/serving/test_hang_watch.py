"""The watch over a server that runs: what counts as a sign of life, and what does not."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler

import pytest

from infra.serving.hang_watch import HangWatch
from tests.support.http_server import http_server

pytestmark = pytest.mark.medium

TIMEOUT_S = 0.6


@contextmanager
def server(tokens: Callable[[], int], replies: Callable[[], int | None]) -> Iterator[tuple[int, list[str]]]:
    """A server whose /metrics counts `tokens`; a chat request gets the status `replies`, or none. Yields the calls."""
    calls: list[str] = []
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f'# TYPE x\nvllm:prompt_tokens_total{{engine="0"}} {tokens()}.0\n'.encode())

        def do_POST(self) -> None:
            calls.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            status = replies()
            if status is None:
                over.wait(10)
                return
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with http_server(Handler) as port:
        try:
            yield port, calls
        finally:
            over.set()


def hung_within(port: int, seconds: float) -> bool:
    watch = HangWatch(port, "m", TIMEOUT_S)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not watch.hung:
        time.sleep(0.01)
    watch.stop()
    return watch.hung


def test_a_server_without_tokens_and_replies_hangs() -> None:
    with server(lambda: 7, lambda: None) as (port, calls):
        assert hung_within(port, 20)
    assert calls[0] == "/v1/chat/completions"


def test_a_server_that_fails_every_call_hangs() -> None:
    with server(lambda: 7, lambda: 500) as (port, _):
        assert hung_within(port, 20)


def test_what_is_a_sign_of_life() -> None:
    """All at once, because a time-out that a busy machine does not reach takes seconds."""
    timeout_s = 6.0
    started = time.monotonic()

    def slow_tokens() -> int:
        return int((time.monotonic() - started) / timeout_s * 2)

    with ExitStack() as stack:
        moving_port, moving_calls = stack.enter_context(server(time.monotonic_ns, lambda: None))
        ports = {"tokens that move": moving_port}
        ports["tokens that move while the call waits"], _ = stack.enter_context(server(slow_tokens, lambda: None))
        calls = {}
        for status in (200, 400, 401, 404):
            port, calls[status] = stack.enter_context(server(lambda: 7, partial(int, status)))
            ports[f"a reply with status {status}"] = port
        watches = {name: HangWatch(port, "m", timeout_s) for name, port in ports.items()}
        time.sleep(1.3 * timeout_s)
        hung = [name for name, watch in watches.items() if watch.hung]
        for watch in watches.values():
            watch.stop()
    assert hung == []
    assert moving_calls == []
    assert all(calls_of_status for calls_of_status in calls.values())
