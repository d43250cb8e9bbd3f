"""A real vLLM with a pooling model, for a test; the test is skipped where there is none."""

import contextlib
import os
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.running.processes import ChildProcess
from infra.serving.checks import free_port

PYTHON = Path(__file__).parents[2] / ".venv-serving/bin/python"
START_S = 400  # it takes half a minute alone on two cores


@contextlib.contextmanager
def running_pooling(model_path: str, name: str, log: Path) -> Iterator[str]:
    """The base URL of a vLLM that serves the model in float32 until the block ends."""
    if not PYTHON.exists():
        pytest.skip(f"no vLLM here: there is no {PYTHON.name} in .venv-serving")
    port = free_port()
    command = [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", model_path]
    command += ["--served-model-name", name, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--runner", "pooling", "--dtype", "float32", "--enforce-eager"]
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)
    environment |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    with tempfile.TemporaryDirectory(prefix="longmill-", ignore_cleanup_errors=True) as temporary:
        environment["TMPDIR"] = temporary  # vLLM does not remove its sockets
        with ChildProcess(command, log=log, env=environment) as process:
            url = f"http://127.0.0.1:{port}/v1"
            _wait(url, process)
            yield url


def _wait(url: str, process: ChildProcess) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{url}/models", timeout=5).read()
            return
        if process.poll() is not None:
            pytest.fail(f"vLLM cannot serve the model on this machine:\n{process.tail()}")
        time.sleep(0.5)
    pytest.fail(f"vLLM did not start within {START_S} s:\n{process.tail()}")
