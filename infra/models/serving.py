"""Servers that Longmill starts itself, on loopback: vLLM for policy and judge, or the rule-based judge in the box.

`start_servers` starts all servers that a recipe needs at the same time. However the run ends, they end with it, and so
do the processes that they started (see infra/running/processes.py). Adapters are loaded into the running server; a full
model needs a server of its own (`serve`). Leaves out: several servers for one model, which are endpoints in a recipe.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.errors import ModelError, PrerequisiteError, ServingError
from infra.models.packaged import BOX
from infra.models.tokens import resolve_model
from infra.recipe import Judge, Model, Recipe, Serving
from infra.recipe.models import RULE_BASED
from infra.running import progress
from infra.running.processes import ChildProcess

STAGE = "vLLM"
_RULE_BASED_START_S = 60


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A server that responds: its base URL ending in /v1, and its process."""

    url: str
    process: ChildProcess


def load_adapter(url: str, name: str, folder: Path, api_key: str | None = None) -> None:
    """Load a LoRA adapter into a running vLLM under `name`. Raises ServingError with the server's message."""
    body = json.dumps({"lora_name": name, "lora_path": str(folder.resolve())}).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
    request = urllib.request.Request(f"{url}/load_lora_adapter", data=body, headers=headers)  # noqa: S310
    try:
        urllib.request.urlopen(request, timeout=120).read()  # noqa: S310 - an endpoint of the recipe
    except urllib.error.HTTPError as error:
        message = error.read().decode(errors="replace")
        if "already been loaded" in message:
            return
        raise ServingError(f"{url} did not load the adapter {folder}: {message[:500]}") from error
    except OSError as error:
        raise ServingError(f"{url} did not load the adapter {folder}: {error}") from error


@contextlib.contextmanager
def start_servers(recipe: Recipe) -> Iterator[Callable[[], Recipe]]:
    """Start the servers that policy and judge need, without waiting: other work can be done meanwhile.

    Yields a function that waits until they respond and returns the recipe with their endpoints. A model that has
    endpoints stays as it is. The servers end with the block.
    """
    _check_ports_differ(recipe)
    logs = local_folder(recipe.store) / "logs"
    servers: dict[str, _Server] = {}  # by section of the recipe
    with contextlib.ExitStack() as stack:
        for section, model in recipe.models().items():
            if not model.endpoints:
                log = logs / ("vllm.log" if section == "policy" else f"{section}.log")
                servers[section] = stack.enter_context(_running_server(section, model, log, section == "policy"))

        def wait_until_ready() -> Recipe:
            models: dict[str, Model] = {}
            for section, server in servers.items():
                url = _wait_for_response(server)
                models[section] = getattr(recipe, section).model_copy(update={"endpoints": (url,)})
            return recipe.model_copy(update=models) if models else recipe

        try:
            yield wait_until_ready
        except ModelError as error:
            for server in servers.values():
                _raise_if_ended(server, error)
            raise


@contextlib.contextmanager
def serve_recipe(recipe: Recipe) -> Iterator[Recipe]:
    """The recipe with endpoints: its own, or those of servers that run until the block ends."""
    with start_servers(recipe) as wait_until_ready:
        yield wait_until_ready()


@contextlib.contextmanager
def serve(model: Model, *, log: Path, adapters: bool = True) -> Iterator[ServedModel]:
    """Run a vLLM server for `model.serve` until the block ends."""
    with _running_server("policy", model, log, adapters) as server:
        yield ServedModel(_wait_for_response(server), server.process)


@dataclass(frozen=True, slots=True)
class _Server:
    """A server that was started and may not respond yet."""

    section: str  # of the recipe: "policy" or "judge"
    name: str  # for messages
    stage: str  # under which its progress is reported
    process: ChildProcess
    port: int
    start_timeout_s: int


@contextlib.contextmanager
def _running_server(section: str, model: Model, log: Path, adapters: bool) -> Iterator[_Server]:
    """Start the server of a model, vLLM or the rule-based judge, and end it with the block."""
    if isinstance(model, Judge) and model.rule_based:
        name, port, start_timeout_s = f"the {RULE_BASED} judge", free_port(), _RULE_BASED_START_S
        command, environment = _rule_based_command(port), dict(os.environ)
    elif (settings := model.serve) is not None:
        python = check_serving_python(settings, section)
        check_model_path(settings, section)
        name = "vLLM" if section == "policy" else "the judge's vLLM"
        port, start_timeout_s = settings.port or free_port(), settings.start_timeout_s
        check_port(port, section)
        command, environment = _vllm_command(model, settings, python, port, adapters), _vllm_environment(settings)
    else:
        raise ServingError(f"{model.name}: the recipe has no {section}.serve to start a server from")
    stage = STAGE if section == "policy" else section  # the stage "judge" counts calls, so it gets notes alone
    if section == "policy":
        progress.expect(stage, 1)
    progress.note(stage, "starting" if section == "policy" else f"{name} is starting")
    with tempfile.TemporaryDirectory(prefix="longmill-", ignore_cleanup_errors=True) as temporary:
        environment["TMPDIR"] = temporary  # vLLM does not remove its sockets and other files
        with ChildProcess(command, log=log, env=environment) as process:
            yield _Server(section, name, stage, process, port, start_timeout_s)


def _wait_for_response(server: _Server) -> str:
    """The server's base URL, once it lists its models. Raises ServingError with the end of its log."""
    url = f"http://127.0.0.1:{server.port}/v1"
    process = server.process
    deadline = time.monotonic() + server.start_timeout_s
    while time.monotonic() < deadline:
        if (status := process.poll()) is not None:
            raise ServingError(
                f"{server.name} ended with status {status} while it started; "
                f"the end of {process.log}:\n{process.tail()}"
            )
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{url}/models", timeout=5).read()  # noqa: S310 - our own loopback URL
            if server.section == "policy":
                progress.advance(server.stage)
                progress.note(server.stage, f"answers on port {server.port}")
            else:
                progress.note(server.stage, f"{server.name} answers on port {server.port}")
            return url
        time.sleep(0.5)
    raise ServingError(
        f"{server.name} did not answer within {server.section}.serve.start_timeout_s = {server.start_timeout_s} s; "
        f"see {process.log}"
    )


def _check_ports_differ(recipe: Recipe) -> None:
    """Raise PrerequisiteError when policy and judge are to be served on the same port."""
    ports = []
    for model in recipe.models().values():
        if model.serve and model.serve.port and not model.endpoints:
            ports.append(model.serve.port)
    if len(set(ports)) < len(ports):
        raise PrerequisiteError(
            f"policy.serve.port and judge.serve.port are both {ports[0]}; give two ports, or 0 to take free ones"
        )


def _raise_if_ended(server: _Server, error: ModelError) -> None:
    """Raise ServingError when calls failed because the server has ended."""
    try:
        status = server.process.wait(1)  # the end of the server is seen a moment later
    except subprocess.TimeoutExpired:
        return
    raise ServingError(
        f"{server.name} ended with status {status} while it was needed; its log is {server.process.log}. "
        f"What was paid for is kept: run again to go on. {error}"
    ) from error


def local_folder(store: str) -> Path:
    """The folder for logs and working files: the store itself when it is a local folder, else `mill`."""
    local = "::" not in store and (store.startswith("file://") or "://" not in store)
    return Path(store.removeprefix("file://")) if local else Path("mill")


def check_serving_python(settings: Serving, section: str = "policy") -> str:
    """The interpreter that holds vLLM, for a section of the recipe. Raises PrerequisiteError with the remedy."""
    python = Path(settings.python)
    if not python.is_absolute():
        python = Path.cwd() / python
        if not python.exists():  # then beside the checkout that this file belongs to
            python = Path(__file__).resolve().parents[2] / settings.python
    if not python.exists():
        raise PrerequisiteError(
            f"{settings.python}: no such Python; `make setup` makes the environment for vLLM, "
            f"or set {section}.serve.python to one that has it, or give {section}.endpoints"
        )
    return str(python)


def check_model_path(settings: Serving, section: str = "policy") -> None:
    """Raises PrerequisiteError when the model is a folder that is not there; a hub name passes."""
    path = resolve_model(settings.model_path)
    if not Path(path).exists() and (path.startswith(("/", ".", "~")) or path.count("/") > 1):
        raise PrerequisiteError(
            f"{section}.serve.model_path: {path} does not exist; give the folder of a model, or its name on the hub"
        )


def check_port(port: int, section: str = "policy") -> None:
    """Raises PrerequisiteError when something else listens on 127.0.0.1:`port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PrerequisiteError(
                f"port {port} on 127.0.0.1 is taken ({error.strerror}); stop what uses it, or set another port "
                f"({section}.serve.port=0 takes a free one)"
            ) from error


def free_port() -> int:
    """A port on 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _rule_based_command(port: int) -> list[str]:
    """The command that starts the rule-based judge in the box."""
    server = json.loads((BOX / RULE_BASED / "server.json").read_text())
    return [sys.executable, "-m", server["module"], "--port", str(port)]


def _vllm_command(model: Model, settings: Serving, python: str, port: int, adapters: bool) -> list[str]:
    command = [python, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", resolve_model(settings.model_path), "--served-model-name", model.name]
    command += ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", str(model.context_window)]
    if adapters:
        command += ["--enable-lora", "--max-lora-rank", str(settings.max_lora_rank)]
    if model.trust_remote_code:
        command += ["--trust-remote-code"]
    if not Path("/dev/nvidiactl").exists():
        # vLLM 0.32 on a CPU ends when the prompt of a seeded request is read in chunks ("CPU Generator does not use
        # offset"), so every prompt must fit one step.
        command += ["--no-enable-chunked-prefill", "--max-num-batched-tokens", str(max(model.context_window, 8192))]
    return [*command, *settings.arguments]


def _vllm_environment(settings: Serving) -> dict[str, str]:
    """The parent's environment without this virtual environment's variables, and vLLM's settings."""
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)
    environment.pop("VIRTUAL_ENV", None)
    environment |= {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    environment.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GiB; has an effect on CPUs alone
    if Path(resolve_model(settings.model_path)).exists():
        environment["HF_HUB_OFFLINE"] = "1"
    return environment
