"""A flow run's page in the Prefect UI: its name and tags, its progress, its summary, and a log that a person reads.

The page is for people and decides nothing: a server that is away costs a part of the page alone.

Prefect logs a line for each task run that ends, and the traceback of each failed task and of each flow around it. Of
our own errors the message says all, so the log has that alone; `--debug` keeps everything.
"""

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from infra.errors import LongmillError
from infra.running import progress

LogTo = logging.Logger | logging.LoggerAdapter[Any]

_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")
_ENDED = re.compile(r"Finished in state (\w+)\(.*\)$", re.DOTALL)


def shorten_logs() -> None:
    """Leave out of Prefect's logs what no person reads; once per process."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if _is_for_people not in logger.filters:
            logger.addFilter(_is_for_people)


def _is_for_people(record: logging.LogRecord) -> bool:
    """Whether a record is shown; shortens it where it says the same as the message of an error of ours."""
    if os.environ.get("LONGMILL_DEBUG"):
        return True
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if isinstance(error, LongmillError):
        record.msg, record.args = f"{type(error).__name__}: {error}", ()
        record.exc_info = record.exc_text = None
        return True
    if isinstance(record.msg, str) and (ended := _ENDED.match(record.msg)):
        if record.name == "prefect.task_runs":
            return False
        record.msg, record.args = f"Finished in state {ended[1]}", ()
    return True


def run_log() -> LogTo:
    """The log of the current flow or task run, for any thread; the process's own where there is none."""
    from prefect.exceptions import MissingContextError
    from prefect.logging import get_run_logger

    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger(__name__)


@contextlib.contextmanager
def said_in_log() -> Iterator[None]:
    """Write what the block's work says (`progress.say`), in any thread, to the log of the current flow run."""
    with progress.also_to(run_log().info):
        yield


def name_run(name: str, tags: Sequence[str]) -> None:
    """Give the current flow run a name and tags, once they are known."""
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run

    if flow_run.id is None:
        return
    with _server_may_be_away(), get_client(sync_client=True) as client:
        client.update_flow_run(UUID(flow_run.id), name=name, tags=[*flow_run.tags, *tags])


def pages_address() -> str:
    """Where this process's Prefect server has its pages, without a user's name; "" where none is named."""
    api = os.environ.get("PREFECT_UI_URL") or os.environ.get("PREFECT_API_URL", "")
    parts = urlsplit(api)
    if parts.scheme not in ("http", "https"):
        return ""
    place = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{place}{parts.path.rstrip('/').removesuffix('/api')}"


def run_link(run_id: str, pages: str) -> str | None:
    """The page of a flow run on the server whose pages are at this address; None without one."""
    is_address = pages.startswith(("http://", "https://"))  # it may come from a record of another process
    return f"{pages}/runs/flow-run/{run_id}" if is_address and run_id else None


class ProgressBar:
    """A progress artifact of the current flow run, which may be updated from any thread."""

    def __init__(self, key: str, description: str) -> None:
        self._id = _create_artifact("progress", key, 0.0, description)

    def show(self, percent: float, description: str) -> None:
        """Move the bar."""
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import ArtifactUpdate

        if self._id is not None:
            with _server_may_be_away(), get_client(sync_client=True) as client:
                client.update_artifact(self._id, ArtifactUpdate(data=percent, description=description))


def announce(key: str, markdown: str) -> None:
    """Keep a Markdown artifact on the current flow run."""
    _create_artifact("markdown", key, markdown)


def _create_artifact(kind: str, key: str, data: str | float, description: str | None = None) -> UUID | None:
    """The id of a new artifact; None where the server is away. Prefect's own functions leave their clients open."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import ArtifactCreate
    from prefect.runtime import flow_run

    run_id = UUID(flow_run.id) if flow_run.id else None
    artifact = ArtifactCreate(type=kind, key=key, data=data, description=description, flow_run_id=run_id)
    created: UUID | None = None
    with _server_may_be_away(), get_client(sync_client=True) as client:
        created = client.create_artifact(artifact).id
    return created  # noqa: RET504  # mypy takes a return inside for the end of the function


@contextlib.contextmanager
def _server_may_be_away() -> Iterator[None]:
    import httpx
    from prefect.exceptions import PrefectException

    with contextlib.suppress(PrefectException, OSError, httpx.HTTPError):
        yield
