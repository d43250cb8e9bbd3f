"""The server of `longmill view`: on 127.0.0.1, at a port of its own, for one person."""

import contextlib
import os
import secrets
import socket
import sys
import webbrowser

import uvicorn

from flows.cli.ending import Interrupted
from flows.view.app import view_app
from infra.errors import InputError, PrerequisiteError
from tasks.viewing.index import warm_up
from tasks.viewing.library import Library

_TOKEN = "LONGMILL_VIEW_TOKEN"  # noqa: S105  # of the environment: one that stays, for programs that read /metrics
_TOKEN_BYTES = 24
_SHORTEST_TOKEN = 16  # characters


def serve_pages(library: Library, port: int, browser: bool) -> None:
    """Serve until a signal comes; prints the address first.

    Raises PrerequisiteError for a port that is taken, InputError for a token of the environment that is too short.
    """
    warm_up()
    token = os.environ.get(_TOKEN) or secrets.token_urlsafe(_TOKEN_BYTES)
    if len(token) < _SHORTEST_TOKEN:
        raise InputError(f"{_TOKEN} is too short to keep others out; give it {_SHORTEST_TOKEN} characters or more")
    listener = socket.socket()
    with contextlib.closing(listener):
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen()  # before the address is printed: a browser waits, where it would be refused
        except OSError as error:
            raise PrerequisiteError(
                f"port {port} cannot be used ({error.strerror}); give another --port, or none for a free one"
            ) from error
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/?token={token}"
        print(f"view: {url}", flush=True)
        if browser and _has_screen():
            webbrowser.open(url)
        # The token is in the first address, so no address is logged.
        config = uvicorn.Config(view_app(library, token), log_level="warning", access_log=False, server_header=False)
        with contextlib.suppress(Interrupted, KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def _has_screen() -> bool:
    """Whether a browser with a window can open; one without would take over the terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
