"""`longmill deploy`: registers Longmill with a Prefect server, from any folder, without a question."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.display import AsJson, console, finish, print_notes, text_table
from infra.errors import LongmillError, PrerequisiteError
from infra.running.prefect import require_server
from infra.urls import without_user

if TYPE_CHECKING:
    from infra.running.registration import Named, Registered


def deploy(
    pool: Annotated[str, typer.Option(help="Work pool; made where there is none.", metavar="NAME")] = "longmill",
    pool_type: Annotated[
        str, typer.Option("--type", help="Type of a new pool: process, docker or kubernetes.", metavar="TYPE")
    ] = "",
    image: Annotated[str, typer.Option(help="Image of runs in containers.")] = "",
    train_image: Annotated[str, typer.Option(help="Image of the queue `train`, where it is another.")] = "",
    recipe: Annotated[
        str, typer.Option(help="Recipe of the deployments: a name in the box, a path or a URL that workers can read.")
    ] = "",
    schedule: Annotated[
        str, typer.Option(help="Switch the nightly on, at this cron in UTC, and maintenance; or `off`.", metavar="CRON")
    ] = "",
    notify: Annotated[
        str, typer.Option(help="Notification block to tell of failures and datasets: slack-webhook/ops.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Register pool, queues, deployments and automations at PREFECT_API_URL. What is not named stays as it is there."""
    if not (url := os.environ.get("PREFECT_API_URL")):
        raise PrerequisiteError(
            "PREFECT_API_URL is not set: start a Prefect server that stays (prefect server start), then "
            "export PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    require_server(url)
    from infra.running.registration import Named

    outcomes = register_all(Named(pool, pool_type, image, train_image, _recipe_for_workers(recipe), schedule), notify)
    if not as_json:
        rows = []
        for outcome in outcomes:
            rows.append([outcome.outcome, outcome.kind, outcome.name, outcome.note])
        console.print(text_table(f"Prefect server at {without_user(url)}", rows))
        print_notes([f"each worker needs its own Longmill; there: {worker_command(pool)}"])
    finish(as_json, [asdict(outcome) for outcome in outcomes], [])


def register_all(named: "Named", notify: str) -> "list[Registered]":
    """Register everything. Raises LongmillError where the server refuses, InputError for what is named wrongly."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectException

    from flows.deployments import deployments
    from infra.running.automations import register_automations
    from infra.running.registration import Registered, register_deployment, register_pool
    from infra.running.remote_runs import AUTOMATION, watch_for_lost_runs

    try:
        with get_client(sync_client=True) as client:
            pool_type, outcomes = register_pool(client, named)
            for deployment in deployments():
                outcomes.append(register_deployment(client, deployment, pool_type, named))
            note = "marks runs as crashed whose process was killed"
            outcomes.append(Registered("automation", AUTOMATION, watch_for_lost_runs(), note))
            if notify:
                outcomes.extend(register_automations(client, notify))
    except (PrefectException, httpx.HTTPError) as error:
        raise LongmillError(f"the Prefect server refuses: {error}; mend that, and deploy again") from error
    return outcomes


def worker_command(pool: str) -> str:
    """How to start a worker, with the Python of the checkout first in the PATH."""
    return f". .venv/bin/activate && prefect worker start --pool {pool} --limit 1"


def _recipe_for_workers(recipe: str) -> str:
    """A file's whole path, since a worker is in another folder."""
    return str(Path(recipe).resolve()) if recipe and Path(recipe).is_file() else recipe
