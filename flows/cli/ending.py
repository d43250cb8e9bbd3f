"""How a command ends: in order, by a deliberate error, or by a signal. Always one short message and a status."""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from rich.markup import escape

from flows.cli.display import errors
from infra.errors import LongmillError

INTERRUPTED = 130  # the exit status that shells expect after Ctrl-C


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM. Not a KeyboardInterrupt, for which typer would print a message of its own."""


def run_to_the_end(verb: Callable[[], object]) -> NoReturn:
    """Run a command, then end the process; a deliberate error becomes a message and its exit status."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        verb()
    except LongmillError as error:
        if os.environ.get("LONGMILL_DEBUG"):
            errors.print_exception()
        errors.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
        if error.page:
            errors.print(f"[dim]see {error.page}[/]", soft_wrap=True)
        _end_process(error.exit_code)
    except Interrupted:
        errors.print("interrupted: what was paid for is kept, and the same command goes on from there")
        _end_process(INTERRUPTED, flush_logs=False)  # a thread that waits for a reply may hold a log's lock
    except SystemExit as exit_request:  # typer ends every verb with it
        code = exit_request.code
        _end_process(code if isinstance(code, int) else int(code is not None))
    _end_process(0)


def _interrupt(number: int, frame: object) -> None:
    for signal_number in (signal.SIGINT, signal.SIGTERM):  # a second one ends the process at once, its servers with it
        signal.signal(signal_number, signal.SIG_DFL)
    raise Interrupted


def _end_process(status: int, *, flush_logs: bool = True) -> NoReturn:
    """End the process at once, without the clean-up of the interpreter and of `atexit`.

    A command closes what it opens in its own blocks, so that only logs and streams can hold anything back. The
    interpreter's clean-up is unsafe here: it waits for every thread, and where threads of native libraries still
    release Python objects it aborts (Python 3.11: one `longmill plan` in thirty on a busy machine ended with 134).
    """
    if flush_logs:
        logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # a pipe whose reader has gone
            stream.flush()
    os._exit(status)
