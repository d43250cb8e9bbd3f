"""vLLM servers that Longmill starts itself, from the environment that holds vLLM, on loopback.

`serve` starts one, waits until it answers, and takes it down with everything it started, however the run
ends (see infra/processes.py). Adapters are loaded into the running server; a full model needs a server of
its own. Leaves out: several servers, which are endpoints in a recipe.
"""

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from infra import progress
from infra.errors import ModelError, PrerequisiteError, ServingError
from infra.processes import Leashed
from infra.recipe import Model, Recipe, Serving
from infra.tokens import resolve_model

STAGE = "vLLM"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A server that answers: its base URL ending in /v1, and its process."""

    url: str
    process: Leashed


def load_adapter(url: str, name: str, folder: Path, api_key: str | None = None) -> None:
    """Load a LoRA adapter into a running vLLM under `name`. Raises ServingError with the server's words."""
    body = json.dumps({"lora_name": name, "lora_path": str(folder.resolve())}).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
    request = urllib.request.Request(f"{url}/load_lora_adapter", data=body, headers=headers)  # noqa: S310
    try:
        urllib.request.urlopen(request, timeout=120).read()  # noqa: S310 - an endpoint of the recipe
    except urllib.error.HTTPError as error:
        words = error.read().decode(errors="replace")
        if "already been loaded" in words:
            return
        raise ServingError(f"{url} did not load the adapter {folder}: {words[:500]}") from error
    except OSError as error:
        raise ServingError(f"{url} did not load the adapter {folder}: {error}") from error


@contextlib.contextmanager
def launched(recipe: Recipe) -> Iterator[Callable[[], Recipe]]:
    """Start the recipe's server, if it needs one, without waiting: other work can be done meanwhile.

    Yields a function that waits until the server answers and returns the recipe with its endpoint; a recipe that
    has endpoints comes back as it is. The server ends with the block.
    """
    if recipe.policy.endpoints:
        yield lambda: recipe
        return
    with _launch(recipe.policy, local_folder(recipe.store) / "logs" / "vllm.log", adapters=True) as starting:

        def ready() -> Recipe:
            policy = recipe.policy.model_copy(update={"endpoints": (_await_answer(*starting).url,)})
            return recipe.model_copy(update={"policy": policy})

        try:
            yield ready
        except ModelError as error:
            _, process, _ = starting
            try:
                status = process.wait(1)  # its keeper sees a moment later that it ended
            except subprocess.TimeoutExpired:
                raise error from None
            raise ServingError(
                f"vLLM ended with status {status} while it was needed; its log is {process.log}. "
                f"What was paid for is kept: run again to go on. {error}"
            ) from error


@contextlib.contextmanager
def reached(recipe: Recipe) -> Iterator[Recipe]:
    """The recipe with endpoints that answer: its own, or those of a server that runs until the block ends."""
    with launched(recipe) as ready:
        yield ready()


@contextlib.contextmanager
def serve(model: Model, *, log: Path, adapters: bool = True) -> Iterator[ServedModel]:
    """Run a vLLM server for `model.serve` until the block ends."""
    with _launch(model, log, adapters) as starting:
        yield _await_answer(*starting)


@contextlib.contextmanager
def _launch(model: Model, log: Path, adapters: bool) -> Iterator[tuple[Serving, Leashed, int]]:
    settings = model.serve
    if settings is None:
        raise ServingError(f"{model.name}: the recipe has no policy.serve to start a server from")
    python = check_serving_python(settings)
    check_model_path(settings)
    port = settings.port or free_port()
    check_port(port)
    progress.expect(STAGE, 1)
    progress.note(STAGE, "starting")
    with tempfile.TemporaryDirectory(prefix="longmill-", ignore_cleanup_errors=True) as temporary:
        environment = _environment(settings) | {"TMPDIR": temporary}  # vLLM leaves sockets and more behind
        with Leashed(_command(model, settings, python, port, adapters), log=log, env=environment) as process:
            yield settings, process, port


def _await_answer(settings: Serving, process: Leashed, port: int) -> ServedModel:
    """Wait until the server lists its models; raises ServingError with the end of its log."""
    url = f"http://127.0.0.1:{port}/v1"
    deadline = time.monotonic() + settings.start_timeout_s
    while time.monotonic() < deadline:
        if (status := process.poll()) is not None:
            raise ServingError(
                f"vLLM ended with status {status} while it started; the end of {process.log}:\n{process.tail()}"
            )
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{url}/models", timeout=5).read()  # noqa: S310 - our own loopback URL
            progress.advance(STAGE)
            progress.note(STAGE, f"answers on port {port}")
            return ServedModel(url, process)
        time.sleep(0.5)
    raise ServingError(
        f"vLLM did not answer within policy.serve.start_timeout_s = {settings.start_timeout_s} s; see {process.log}"
    )


def local_folder(store: str) -> Path:
    """Where logs and working files lie: the store itself when it is a local folder, else `mill`."""
    local = "::" not in store and (store.startswith("file://") or "://" not in store)
    return Path(store.removeprefix("file://")) if local else Path("mill")


def check_serving_python(settings: Serving) -> str:
    """The interpreter that holds vLLM. Raises PrerequisiteError with the remedy."""
    python = Path(settings.python)
    if not python.is_absolute():
        python = Path.cwd() / python
        if not python.exists():  # beside the checkout that this file belongs to
            python = Path(__file__).resolve().parents[1] / settings.python
    if not python.exists():
        raise PrerequisiteError(
            f"{settings.python}: no such Python; `make setup` makes the environment for vLLM, "
            "or set policy.serve.python to one that has it, or give policy.endpoints"
        )
    return str(python)


def check_model_path(settings: Serving) -> None:
    """Raises PrerequisiteError when the model is a folder that is not there; a hub name passes."""
    path = resolve_model(settings.model_path)
    if not Path(path).exists() and (path.startswith(("/", ".", "~")) or path.count("/") > 1):
        raise PrerequisiteError(
            f"policy.serve.model_path: {path} does not exist; give the folder of a model, or its name on the hub"
        )


def check_port(port: int) -> None:
    """Raises PrerequisiteError when something else listens on 127.0.0.1:`port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PrerequisiteError(
                f"port {port} on 127.0.0.1 is taken ({error.strerror}); stop what uses it, or set another port "
                "(policy.serve.port=0 takes a free one)"
            ) from error


def free_port() -> int:
    """A port on 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _command(model: Model, settings: Serving, python: str, port: int, adapters: bool) -> list[str]:
    command = [python, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", resolve_model(settings.model_path), "--served-model-name", model.name]
    command += ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", str(model.context_window)]
    if adapters:
        command += ["--enable-lora", "--max-lora-rank", str(settings.max_lora_rank)]
    if model.trust_remote_code:
        command += ["--trust-remote-code"]
    if not Path("/dev/nvidiactl").exists():
        # vLLM 0.32 on a CPU dies of a seeded request whose prompt it reads in chunks ("CPU Generator does not
        # use offset"): every prompt must fit one step.
        command += ["--no-enable-chunked-prefill", "--max-num-batched-tokens", str(max(model.context_window, 8192))]
    return [*command, *settings.arguments]


def _environment(settings: Serving) -> dict[str, str]:
    """The parent's environment without this virtual environment's marks, and vLLM's switches."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    environment.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GiB; read on CPUs alone
    if Path(resolve_model(settings.model_path)).exists():
        environment["HF_HUB_OFFLINE"] = "1"
    return environment
