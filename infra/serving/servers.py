"""The servers of a recipe: started at the same time, looked after while they are needed, ended with the run.

`start_servers` starts what policy and judge need, vLLM or the rule-based judge in the box, `replicas` of it; or takes
the servers of a `longmill serve` for the same models and store. With `waiting` each starts when a call is there for it,
so that a run whose replies are all in the ledger starts none. However the run ends, its servers end with it, and so
do the processes that they started (see infra/running/processes.py). Adapters are loaded into the running servers; a
full model needs a server of its own (`serve`).
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from infra.canonical import canonical_json
from infra.errors import ModelError, ServingError
from infra.recipe import RULE_BASED, Execution, Judge, Model, Recipe, Serving
from infra.running import progress
from infra.serving import records
from infra.serving.checks import (
    check_model_path,
    check_port,
    check_ports_differ,
    check_serving_python,
    free_port,
)
from infra.serving.command import rule_based_command, vllm_command
from infra.serving.server import Server, ServerSettings, report_starting, running_server
from infra.serving.shares import Share, shares_of_servers

STAGE = "vLLM"
_RULE_BASED_START_S = 60
_LEAST_HANG_S = 60.0  # however short the calls may be
_SHARED_RESTARTS_S = 3600.0  # servers for several runs: so many restarts in an hour


@dataclass(slots=True)
class RecipeServers:
    """The servers of a recipe, by section: those that were started here, and the URLs of those that ran already."""

    recipe: Recipe
    started: dict[str, list[Server]] = field(default_factory=dict)
    running: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def wait_until_ready(self) -> Recipe:
        """The recipe with endpoints, once all servers respond. Raises ServingError with the end of a log."""
        for servers in self.started.values():
            for server in servers:
                server.wait_until_up()
        return self.with_endpoints()

    def with_endpoints(self) -> Recipe:
        """The recipe with endpoints, whether the servers respond already or not: calls wait until they do."""
        models: dict[str, Model] = {}
        for section, urls in self.running.items():
            models[section] = _with_endpoints(getattr(self.recipe, section), urls)
        for section, servers in self.started.items():
            urls = tuple(server.url for server in servers)
            models[section] = _with_endpoints(getattr(self.recipe, section), urls)
        return self.recipe.model_copy(update=models) if models else self.recipe

    def raise_failure(self, error: ModelError) -> None:
        """Raise ServingError when calls failed because a server was given up."""
        for servers in self.started.values():
            for server in servers:
                if server.failure:
                    raise ServingError(server.failure) from error


@contextlib.contextmanager
def start_servers(recipe: Recipe, *, shared: bool = False, waiting: bool = False) -> Iterator[RecipeServers]:
    """Start the servers that policy and judge need, without waiting: other work can be done meanwhile.

    A model that has endpoints stays as it is. The servers end with the block. `shared`: other runs of the recipe may
    use them. `waiting`: each starts when there is a call for it, or with `wait_until_ready`.
    """
    check_ports_differ(recipe)
    servers = RecipeServers(recipe)
    missing: dict[str, Model] = {}
    for section, model in recipe.models().items():
        if not model.endpoints:
            urls = () if shared else shared_servers(recipe, section)
            if urls:
                servers.running[section] = urls
            else:
                missing[section] = model
    shares = shares_of_servers(missing)
    with contextlib.ExitStack() as stack:
        for section, model in missing.items():
            mark = _identity(recipe, section) if shared else ""
            servers.started[section] = []
            for settings in _replica_settings(recipe, section, model, shares[section], mark):
                if not waiting:
                    report_starting(settings)
                servers.started[section].append(stack.enter_context(running_server(settings, waits=waiting)))
        try:
            yield servers
        except ModelError as error:
            servers.raise_failure(error)
            raise


@contextlib.contextmanager
def serve_recipe(recipe: Recipe) -> Iterator[Recipe]:
    """The recipe with endpoints: its own, or those of servers that run until the block ends."""
    with start_servers(recipe) as servers:
        yield servers.wait_until_ready()


@contextlib.contextmanager
def serve(model: Model, *, log: Path, execution: Execution, adapters: bool = True) -> Iterator[str]:
    """Run one vLLM server for `model.serve` until the block ends; yields its base URL."""
    if model.serve is None:
        raise ServingError(f"{model.name}: the recipe has no policy.serve to start a server from")
    progress.expect(STAGE, 1)
    settings = _vllm_settings("policy", model, model.serve, model.serve.port, log, Share(), execution, adapters)
    report_starting(settings)
    with running_server(settings) as server:
        server.wait_until_up()
        yield server.url


def restart_counts(recipe: Recipe) -> dict[str, int]:
    """How often the servers behind the recipe's endpoints were started again, by section; those looked after here."""
    counts: dict[str, int] = {}
    for section, model in recipe.models().items():
        for url in model.endpoints:
            record = records.read_record(url)
            if record is not None:
                counts[section] = counts.get(section, 0) + record.restarts
    return counts


def starting_servers(recipe: Recipe) -> dict[str, str]:
    """The sections of the recipe whose server is not up yet, or again, with words for people."""
    words = {"starting": "its server starts", "restarting": "its server starts again"}
    waits: dict[str, str] = {}
    for section, model in recipe.models().items():
        for url in model.endpoints:
            record = records.read_record(url)
            if record is not None and record.state in words:
                waits[section] = words[record.state]
    return waits


def restarts_since(earlier: Mapping[str, int], recipe: Recipe) -> dict[str, int]:
    """The restarts since `restart_counts` gave `earlier`, by section."""
    since = {}
    for section, count in restart_counts(recipe).items():
        since[section] = count - earlier.get(section, 0)
    return since


def shared_servers(recipe: Recipe, section: str) -> tuple[str, ...]:
    """URLs of the servers that a `longmill serve` of the same model and store has up; () when there are none."""
    return tuple(record.url for record in records.shared_records(_identity(recipe, section)))


def local_folder(store: str) -> Path:
    """The folder for logs and working files: the store itself where it is a folder, else LONGMILL_WORK, else `mill`."""
    local = "::" not in store and (store.startswith("file://") or "://" not in store)
    return Path(store.removeprefix("file://")) if local else Path(os.environ.get("LONGMILL_WORK", "mill"))


def _identity(recipe: Recipe, section: str) -> str:
    """Which server a run needs: the same for the same model, started in the same way, and the same store.

    The store counts because adapters have names within it.
    """
    model: Model = getattr(recipe, section)
    local = recipe.store if "://" in recipe.store else str(Path(recipe.store).resolve())
    settings = model.model_dump(
        mode="json", include={"name", "revision", "context_window", "serve", "trust_remote_code", "rule_based"}
    )
    text = canonical_json({"section": section, "store": local, **settings})
    return hashlib.sha256(text).hexdigest()


def _with_endpoints(model: Model, urls: tuple[str, ...]) -> Model:
    return model.model_copy(update={"endpoints": urls})


def _replica_settings(
    recipe: Recipe, section: str, model: Model, shares: list[Share], mark: str
) -> Iterator[ServerSettings]:
    """How each server of a model is started."""
    logs = local_folder(recipe.store) / "logs"
    log_name = "vllm" if section == "policy" else section
    if section == "policy":
        progress.expect(STAGE, len(shares))
    for index, share in enumerate(shares):
        log = logs / (f"{log_name}.log" if index == 0 else f"{log_name}-{index + 1}.log")
        if isinstance(model, Judge) and model.rule_based:
            settings = _rule_based_settings(model, log, recipe.execution)
        elif model.serve is not None:
            port = model.serve.port + index if model.serve.port else 0
            settings = _vllm_settings(
                section, model, model.serve, port, log, share, recipe.execution, section == "policy"
            )
        else:
            raise ServingError(f"{model.name}: the recipe has no {section}.serve to start a server from")
        window_s = _SHARED_RESTARTS_S if mark else float("inf")
        yield replace(settings, shared=mark, restart_window_s=window_s)


def _rule_based_settings(model: Model, log: Path, execution: Execution) -> ServerSettings:
    port = free_port()
    return ServerSettings(
        section="judge",
        name=f"the {RULE_BASED} judge",
        stage="judge",
        model=model.name,
        command=rule_based_command(port),
        environment=dict(os.environ),
        port=port,
        log=log,
        start_timeout_s=_RULE_BASED_START_S,
        hang_timeout_s=_default_hang_timeout_s(execution),
    )


def _vllm_settings(
    section: str,
    model: Model,
    serving: Serving,
    port: int,
    log: Path,
    share: Share,
    execution: Execution,
    adapters: bool,
) -> ServerSettings:
    python = check_serving_python(serving, section)
    check_model_path(serving, section)
    port = port or free_port()
    check_port(port, section)
    command, environment = vllm_command(model, serving, python, port, adapters=adapters, share=share)
    return ServerSettings(
        section=section,
        name="vLLM" if section == "policy" else f"the {section}'s vLLM",
        stage=STAGE if section == "policy" else section,  # the stage "judge" counts calls, so it gets notes alone
        model=model.name,
        command=command,
        environment=environment,
        port=port,
        log=log,
        start_timeout_s=serving.start_timeout_s,
        hang_timeout_s=serving.hang_timeout_s or _default_hang_timeout_s(execution),
        api_key=os.environ.get(model.api_key_env),
    )


def _default_hang_timeout_s(execution: Execution) -> float:
    """Before the calls in flight time out, so that they wait for the restart and use up no attempt."""
    return max(_LEAST_HANG_S, 0.9 * execution.timeout_s)
