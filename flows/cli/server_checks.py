"""What `longmill doctor` looks at on the Prefect server: version, pool, workers, deployments, the automation."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from infra.errors import LongmillError, PrerequisiteError
from infra.running.prefect import require_server
from infra.urls import without_user

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

Look = Callable[["SyncPrefectClient"], list[str]]


def server_checks() -> Iterator[tuple[str, Callable[[], object]]]:
    """The checks by their names; without a server there is one that says so."""
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        yield "no PREFECT_API_URL: each run starts a Prefect server for itself", list
        return
    yield f"Prefect server {without_user(url)}", partial(_ask, _check_version)
    try:
        require_server(url)
    except LongmillError:
        return
    yield "work pool", partial(_ask, _check_pool)
    yield "workers", partial(_ask, _check_workers)
    yield "deployments", partial(_ask, _check_deployments)
    yield "automation", partial(_ask, _check_automation)


def _ask(look: Look) -> list[str]:
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectException

    require_server(os.environ["PREFECT_API_URL"])
    try:
        with get_client(sync_client=True) as client:
            return look(client)
    except (PrefectException, httpx.HTTPError) as error:
        raise PrerequisiteError(f"the Prefect server does not say: {error}") from error


def _check_version(client: "SyncPrefectClient") -> list[str]:
    import prefect

    server = client.api_version()
    if server.split(".")[:2] != prefect.__version__.split(".")[:2]:
        raise PrerequisiteError(
            f"it has Prefect {server} and this environment {prefect.__version__}; run the same minor version on both"
        )
    return [server]


def _check_pool(client: "SyncPrefectClient") -> list[str]:
    pool = client.read_work_pool(_pool_name(client))
    if pool.is_paused:
        raise PrerequisiteError(f"{pool.name} is paused: prefect work-pool resume {pool.name}")
    limit = "" if pool.concurrency_limit is None else f", {pool.concurrency_limit} runs at once"
    return [f"{pool.name} ({pool.type}){limit}"]


def _check_workers(client: "SyncPrefectClient") -> list[str]:
    from prefect.client.schemas.objects import WorkerStatus, WorkQueueStatus

    from infra.running.registration import QUEUES

    name = _pool_name(client)
    workers = client.read_workers_for_work_pool(name)
    online = sum(worker.status == WorkerStatus.ONLINE for worker in workers)
    statuses = {queue.name: queue.status for queue in client.read_work_queues(work_pool_name=name)}
    unserved = [queue for queue in QUEUES if statuses.get(queue) != WorkQueueStatus.READY]
    if not online or unserved:
        queues = " and none for ".join(unserved or QUEUES)
        raise PrerequisiteError(
            f"{online} online, none for {queues}: . .venv/bin/activate && prefect worker start --pool {name} "
            f"--work-queue {(unserved or QUEUES)[0]} --limit 1"
        )
    notes = [f"{online} online, for {' and '.join(QUEUES)}"]
    python = shutil.which("python")
    if python is None or Path(python).parent != Path(sys.executable).parent:
        notes.append(f"a worker of this shell would start runs with {python}, and not with {sys.executable}")
    return notes


def _check_deployments(client: "SyncPrefectClient") -> list[str]:
    from flows.deployments import deployments
    from infra.running.registration import Named, changes_of, find_deployment, settings_of

    missing, other = [], []
    pool = client.read_work_pool(_pool_name(client))
    for deployment in deployments():
        there = find_deployment(client, deployment)
        if there is None:
            missing.append(deployment.name)
        elif changes_of(there, settings_of(deployment, pool.type, Named(pool.name), there)):
            other.append(deployment.name)
    if missing or other:
        faults = [f"{_names(missing)} not there"] if missing else []
        if other:
            faults.append(f"{_names(other)} of another version")
        raise PrerequisiteError(f"{', '.join(faults)}: run `longmill deploy`")
    return [f"{len(deployments())}, of this version"]


def _names(deployments: list[str]) -> str:
    return ", ".join(deployments) if len(deployments) < 4 else str(len(deployments))


def _check_automation(client: "SyncPrefectClient") -> list[str]:
    from infra.running.remote_runs import AUTOMATION

    automations = client.read_automations_by_name(AUTOMATION)
    if not automations:
        raise PrerequisiteError(f"{AUTOMATION} is not there: a killed run would stay `Running`; run `longmill deploy`")
    if not automations[0].enabled:
        raise PrerequisiteError(f"{AUTOMATION} is off: a killed run stays `Running`; switch it on in the UI")
    return [AUTOMATION]


def _pool_name(client: "SyncPrefectClient") -> str:
    """The pool of Longmill's deployments; before they are there, the one that they would get."""
    from flows.deployments import deployments
    from infra.running.registration import find_deployment

    for deployment in deployments():
        there = find_deployment(client, deployment)
        if there is not None and there.work_pool_name:
            return there.work_pool_name
    raise PrerequisiteError("no deployment of Longmill is registered; run `longmill deploy`")
