"""A Prefect server that is away for a while (a restart, its database) is waited for.

Prefect's own client waits for a server only where it has reached it before, and a flow run begins with a new client.
"""

import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import httpx
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.settings import PREFECT_API_URL

from infra.errors import PrerequisiteError
from infra.running import progress

AWAY_S = 600.0  # that a server may be away
_POLL_S = 5.0

Value = TypeVar("Value")
Parameters = ParamSpec("Parameters")


def when_server_answers(ask: Callable[[], Value]) -> Value:
    """What the server answers; while it is away, it is asked again. Raises PrerequisiteError after `AWAY_S` seconds."""
    return _again_while(ask, lambda error: isinstance(error, PrefectException | httpx.HTTPError | OSError))


def run_when_server_answers(
    run: Callable[Parameters, Value], *arguments: Parameters.args, **named: Parameters.kwargs
) -> Value:
    """What a flow returns with these arguments; it is run again while its client does not reach the server.

    Raises what it raises, and PrerequisiteError after `AWAY_S` seconds without a server.
    """
    return _again_while(lambda: run(*arguments, **named), _is_of_server)


def _is_of_server(error: Exception) -> bool:
    """Whether a request to the Prefect server has failed, not one to another server."""
    if not isinstance(error, httpx.TransportError):
        return False
    try:
        url = str(error.request.url)
    except RuntimeError:  # of no request
        return False
    return url.startswith(PREFECT_API_URL.value() or "http")


def _again_while(ask: Callable[[], Value], is_away: Callable[[Exception], bool]) -> Value:
    deadline = time.monotonic() + AWAY_S
    while True:
        try:
            return ask()
        except ObjectNotFound:
            raise
        except Exception as error:
            if not is_away(error):
                raise
            status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else 0
            if 400 <= status < 500 and status not in (408, 429):
                raise PrerequisiteError(
                    f"the Prefect server refuses: {error}; `longmill doctor` may say why"
                ) from error
            if time.monotonic() > deadline:
                raise PrerequisiteError(
                    f"the Prefect server does not answer ({error}); start it again, then run again: what was paid for "
                    "is kept"
                ) from error
            progress.wait("shards", f"the Prefect server does not answer ({type(error).__name__}); waiting for it")
            time.sleep(_POLL_S)
