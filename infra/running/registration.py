"""Registers work pool, queues and deployments with a Prefect server: what is there already and right is left alone.

What a person has changed on the server stays unless it is named anew: whether a schedule is on and when, parameters,
tags, further job variables, limits, and the base job template of the pool.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    DeploymentUpdate,
    WorkPoolCreate,
)
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker

from infra.errors import InputError
from infra.running.prefect import TAG

QUEUES = ("default", "train")
POOL_TYPES = ("process", "docker", "kubernetes")
TEMPLATES = Path(__file__).parents[1] / "deploy" / "pools"

# What a run of the queue `train` gets where each run has a container of its own.
_TRAIN_JOB: Mapping[str, Mapping[str, Any]] = {
    "process": {},
    "docker": {
        "container_create_kwargs": {
            "device_requests": [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}],
            "shm_size": "16g",
        }
    },
    "kubernetes": {
        "gpus": 1,
        "cpu": "8",
        "memory": "64Gi",
        "node_selector": {"nvidia.com/gpu.present": "true"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "shm_size": "16Gi",
        "work_volume": {"name": "work", "persistentVolumeClaim": {"claimName": "longmill-train"}},
    },
}


@dataclass(frozen=True, slots=True)
class Deployment:
    """A flow as workers run it.

    With `cron` (UTC) it has a schedule, off at first; with `cron_is_named` the command may name another.
    """

    name: str
    flow: Flow[..., Any]
    description: str
    job: Mapping[str, Any]  # variables of the work pool's job template
    pull_steps: Sequence[Mapping[str, Any]]
    queue: str = "default"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    cron: str = ""
    cron_is_named: bool = False
    most_runs: int | None = None  # at once

    @property
    def full_name(self) -> str:
        """As the server names it: flow/deployment."""
        return f"{self.flow.name}/{self.name}"


@dataclass(frozen=True, slots=True)
class Registered:
    """What became of one thing on the server: `outcome` is "made", "changed" or "left"."""

    kind: str
    name: str
    outcome: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Named:
    """What the command names; the rest stays as the server has it, or gets its default."""

    pool: str
    pool_type: str = ""
    image: str = ""
    train_image: str = ""
    recipe: str = ""
    schedule: str = ""  # a cron, or "off"


def register_pool(client: SyncPrefectClient, named: Named) -> tuple[str, list[Registered]]:
    """Make the pool and its queues. Returns the pool's type and the outcomes.

    Raises InputError where the pool is of another type than the one named.
    """
    outcomes = []
    try:
        pool = client.read_work_pool(named.pool)
    except ObjectNotFound:
        pool_type = named.pool_type or "process"
        made = WorkPoolCreate(name=named.pool, type=pool_type, base_job_template=job_template(pool_type))
        pool = client.create_work_pool(made)
        outcomes.append(Registered("pool", named.pool, "made", pool_type))
    else:
        if named.pool_type and named.pool_type != pool.type:
            raise InputError(
                f"--type {named.pool_type}: the pool {named.pool} is there already, of type {pool.type}; name another "
                f"with --pool, or delete it: prefect work-pool delete {named.pool}"
            )
        note = pool.type
        if pool.type in ("docker", "kubernetes") and pool.base_job_template != job_template(pool.type):
            note += "; its job template is not this version's, which `prefect work-pool update` would take"
        outcomes.append(Registered("pool", named.pool, "left", note))
    there = {queue.name for queue in client.read_work_queues(work_pool_name=named.pool)}
    for queue in QUEUES:
        if queue not in there:
            client.create_work_queue(queue, work_pool_name=named.pool)
        outcomes.append(Registered("queue", queue, "left" if queue in there else "made"))
    return pool.type, outcomes


def job_template(pool_type: str) -> dict[str, Any]:
    """The base job template of a new pool. Raises InputError for a type that Longmill has none for."""
    if pool_type == "process":
        return ProcessWorker.get_default_base_job_template()
    path = TEMPLATES / f"{pool_type}.json"
    if not path.exists():
        raise InputError(f"--type {pool_type}: there are {', '.join(POOL_TYPES)}")
    template: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return template


def register_deployment(client: SyncPrefectClient, deployment: Deployment, pool_type: str, named: Named) -> Registered:
    """Make a deployment, or change what is not as it should be."""
    there = find_deployment(client, deployment)
    settings = settings_of(deployment, pool_type, named, there)
    if there is None:
        schedules = []
        if deployment.cron:
            cron, active = _cron_of(deployment, named), named.schedule not in ("", "off")
            schedules = [DeploymentScheduleCreate(schedule=_utc(cron), active=active, slug=TAG)]
        client.create_deployment(
            client.create_flow_from_name(deployment.flow.name),
            deployment.name,
            schedules=schedules,
            concurrency_limit=deployment.most_runs,
            enforce_parameter_schema=True,
            **settings,
        )
        there = find_deployment(client, deployment)
        return Registered("deployment", deployment.full_name, "made", _schedule_note(there))
    changes = changes_of(there, settings)
    if changes:
        client.update_deployment(there.id, DeploymentUpdate(**settings))
    if _set_schedule(client, deployment, named, there):
        changes.append("schedule")
        there = find_deployment(client, deployment)
    notes = [", ".join(changes).replace("_", " "), _schedule_note(there)]
    outcome = "changed" if changes else "left"
    return Registered("deployment", deployment.full_name, outcome, "; ".join(filter(None, notes)))


def find_deployment(client: SyncPrefectClient, deployment: Deployment) -> DeploymentResponse | None:
    """The deployment as the server has it, or None."""
    try:
        return client.read_deployment_by_name(deployment.full_name)
    except ObjectNotFound:
        return None


def settings_of(
    deployment: Deployment, pool_type: str, named: Named, there: DeploymentResponse | None
) -> dict[str, Any]:
    """What a deployment should be, by the names of the server's fields; `there` is what it is now."""
    schema = parameter_schema(deployment.flow)
    parameters = dict(deployment.parameters)
    for name, value in (there.parameters if there else {}).items():
        if name in schema.properties:  # an earlier version may have had others
            parameters[name] = value
    if named.recipe and "recipe" in deployment.parameters:
        parameters["recipe"] = named.recipe
    return {
        "version": version("longmill"),
        "description": deployment.description,
        "tags": sorted({TAG, *(there.tags if there else ())}),
        "parameters": parameters,
        "parameter_openapi_schema": schema.model_dump(mode="json", exclude_unset=True),
        "entrypoint": f"{deployment.flow.fn.__module__}.{deployment.flow.fn.__name__}",
        "path": None,  # deployments of before had the folder of who deployed
        "pull_steps": deployment.pull_steps,
        "work_pool_name": named.pool,
        "work_queue_name": deployment.queue,
        "job_variables": _job_variables(deployment, pool_type, named, there),
    }


def changes_of(there: DeploymentResponse, settings: Mapping[str, Any]) -> list[str]:
    """The names of the settings that the server has otherwise."""
    return [name for name, value in settings.items() if getattr(there, name) != value]


def _job_variables(
    deployment: Deployment, pool_type: str, named: Named, there: DeploymentResponse | None
) -> dict[str, Any]:
    variables = dict(_TRAIN_JOB.get(pool_type, {})) if deployment.queue == "train" else {}
    if there is not None and there.work_pool_name == named.pool:  # those of another pool mean nothing in this one
        variables.update(there.job_variables)
    environment = there.job_variables.get("env", {}) if there else {}
    variables |= {**deployment.job, "env": {**deployment.job["env"], **environment}}
    image = named.train_image if deployment.queue == "train" and named.train_image else named.image
    if image and pool_type != "process":
        variables["image"] = image
    return variables


def _set_schedule(client: SyncPrefectClient, deployment: Deployment, named: Named, there: DeploymentResponse) -> bool:
    """Set the schedule where one is named, or make the one that is missing. Returns whether anything was changed."""
    if not deployment.cron or (there.schedules and not named.schedule):
        return False
    cron, active = _cron_of(deployment, named), named.schedule not in ("", "off")
    if not there.schedules:
        client.create_deployment_schedules(
            there.id, [DeploymentScheduleCreate(schedule=_utc(cron), active=active, slug=TAG)]
        )
        return True
    schedule = there.schedules[0]
    if named.schedule == "off" and not schedule.active:
        return False
    if schedule.active == active and getattr(schedule.schedule, "cron", "") == cron:
        return False
    client.update_deployment_schedule(
        there.id, schedule.id, active=active, schedule=None if named.schedule == "off" else _utc(cron)
    )
    return True


def _cron_of(deployment: Deployment, named: Named) -> str:
    """The named cron where the deployment takes it; the other schedules go on and off with it, at their own times."""
    return named.schedule if deployment.cron_is_named and named.schedule not in ("", "off") else deployment.cron


def _utc(cron: str) -> CronSchedule:
    try:
        return CronSchedule(cron=cron, timezone="UTC")
    except ValueError as error:
        raise InputError(f"--schedule {cron!r} is no cron expression, such as '0 1 * * *', and not `off`") from error


def _schedule_note(there: DeploymentResponse | None) -> str:
    """The schedules of a deployment in words, such as "0 1 * * * UTC, off"."""
    notes = []
    for schedule in there.schedules if there else ():
        when = schedule.schedule
        text = f"{when.cron} {when.timezone or 'UTC'}" if isinstance(when, CronSchedule) else "a schedule"
        notes.append(f"{text}, {'on' if schedule.active else 'off'}")
    return "; ".join(notes)
