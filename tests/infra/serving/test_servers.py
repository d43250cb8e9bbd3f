"""Servers that Longmill starts, with a program in vLLM's place: their arguments, adapters, timeouts, ports.

How they live and end is in test_servers_life.py.
"""

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from infra.errors import PrerequisiteError, ServingError
from infra.models.packaged.models import BOX
from infra.recipe import Execution, Model
from infra.serving.adapters import load_adapter
from infra.serving.checks import check_port, free_port
from infra.serving.server import ServerSettings
from infra.serving.servers import local_folder, serve
from tests.support.http_server import http_server

ANSWERS = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
json.dump({"argv": sys.argv[1:], "environment": dict(os.environ)}, open(sys.argv[0] + ".started", "w"))
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
    def log_message(self, *arguments): pass
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""
HANGS = "import time; time.sleep(600)"


def model(folder: Path, program: str, **serving: Any) -> Model:
    """A model whose "Python with vLLM" runs `program` with vLLM's arguments."""
    (folder / "server.py").write_text(program)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {folder / "server.py"} "$@"\n')
    python.chmod(0o755)
    settings = {"model_path": "microworld", "python": str(python), "start_timeout_s": 60} | serving
    return Model.model_validate({"name": "tiny", "tokenizer": "microworld", "context_window": 512, "serve": settings})


def started_with(folder: Path) -> dict[str, Any]:
    """What the program was started with."""
    arguments: dict[str, Any] = json.loads((folder / "server.py.started").read_text())
    return arguments


def pretend(monkeypatch: pytest.MonkeyPatch, *, gpu: bool) -> None:
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: gpu if str(path) == "/dev/nvidiactl" else exists(path))


@pytest.mark.medium
def test_vllm_gets_the_model_the_window_and_the_adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("VIRTUAL_ENV", "/nowhere")
    port = free_port()
    served = model(tmp_path, ANSWERS, port=port, max_lora_rank=32, arguments=["--seed", "7"])
    with serve(served, log=tmp_path / "log", execution=Execution()):
        pass
    program, model_path, *_ = started_with(tmp_path)["argv"]
    assert Path(program).name == "vllm_server.py"
    assert model_path == str(BOX / "microworld")
    words = " ".join(started_with(tmp_path)["argv"])
    assert "--served-model-name tiny --host 127.0.0.1" in words
    assert f"--port {port} --max-model-len 512 --enable-lora --max-lora-rank 32" in words
    assert words.endswith("--seed 7")
    assert "--trust-remote-code" not in words
    environment = started_with(tmp_path)["environment"]
    assert environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert environment["VLLM_NO_USAGE_STATS"] == environment["HF_HUB_OFFLINE"] == "1"
    assert not {"PYTHONPATH", "VIRTUAL_ENV"} & environment.keys()


@pytest.mark.medium
@pytest.mark.parametrize("gpu", [False, True])
def test_a_cpu_reads_every_prompt_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool) -> None:
    pretend(monkeypatch, gpu=gpu)
    with serve(model(tmp_path, ANSWERS), log=tmp_path / "log", execution=Execution()):
        pass
    words = " ".join(started_with(tmp_path)["argv"])
    assert ("--no-enable-chunked-prefill --max-num-batched-tokens 8192" in words) is not gpu


@pytest.mark.medium
def test_a_server_that_never_responds_is_ended(tmp_path: Path) -> None:
    with (
        pytest.raises(ServingError, match=r"did not answer within policy\.serve\.start_timeout_s = 1 s"),
        serve(model(tmp_path, HANGS, start_timeout_s=1), log=tmp_path / "log", execution=Execution()),
    ):
        raise AssertionError("it never answered")
    assert str(tmp_path / "server.py") not in _command_lines()


def _command_lines() -> str:
    lines = []
    for entry in Path("/proc").iterdir():
        try:
            lines.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(lines)


@contextmanager
def adapter_server(status: int, body: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that answers every POST alike; yields its URL and the requests."""
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"]))
            received.append({"path": self.path, "key": self.headers["Authorization"], **json.loads(text)})
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *arguments: object) -> None:
            pass

    with http_server(Handler) as port:
        yield f"http://127.0.0.1:{port}/v1", received


def test_an_adapter_is_loaded_by_name_and_absolute_path(tmp_path: Path) -> None:
    with adapter_server(200, "Success") as (url, received):
        load_adapter(url, "better", tmp_path, api_key="geheim")
        load_adapter(url, "better", tmp_path)
    request = {"path": "/v1/load_lora_adapter", "lora_name": "better", "lora_path": str(tmp_path.resolve())}
    assert received == [request | {"key": "Bearer geheim"}, request | {"key": None}]


def test_an_adapter_that_is_there_already_is_fine(tmp_path: Path) -> None:
    with adapter_server(400, "The lora adapter 'better' has already been loaded.") as (url, received):
        load_adapter(url, "better", tmp_path)
    assert len(received) == 1


def test_the_error_of_a_refused_adapter_has_the_servers_message(tmp_path: Path) -> None:
    with adapter_server(404, "no such endpoint") as (url, _), pytest.raises(ServingError, match="no such endpoint"):
        load_adapter(url, "better", tmp_path)
    with pytest.raises(ServingError, match="did not load the adapter"):
        load_adapter(f"http://127.0.0.1:{free_port()}/v1", "better", tmp_path)


def test_a_taken_port_is_named_with_the_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PrerequisiteError, match=rf"port {port} on 127\.0\.0\.1 is taken.*policy\.serve\.port=0"):
            check_port(port)


@pytest.mark.parametrize(
    ("store", "folder"),
    [("a/b", "a/b"), ("file:///a/b", "/a/b"), ("s3://bucket/mill", "mill"), ("simplecache::s3://b/m", "mill")],
)
def test_logs_lie_in_the_store_or_in_mill(store: str, folder: str) -> None:
    assert local_folder(store) == Path(folder)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("serving", "timeout_s", "hang_timeout_s"), [({}, 600, 540), ({}, 10, 60), ({"hang_timeout_s": 5}, 600, 5)]
)
def test_a_server_counts_as_hung_before_its_calls_time_out(
    tmp_path: Path, serving: dict[str, int], timeout_s: int, hang_timeout_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: list[ServerSettings] = []

    @contextmanager
    def running_server(started: ServerSettings) -> Iterator[None]:
        settings.append(started)
        raise ServingError("enough")
        yield

    monkeypatch.setattr("infra.serving.servers.running_server", running_server)
    with (
        pytest.raises(ServingError, match="enough"),
        serve(model(tmp_path, HANGS, **serving), log=tmp_path / "log", execution=Execution(timeout_s=timeout_s)),
    ):
        pass
    assert settings[0].hang_timeout_s == hang_timeout_s
