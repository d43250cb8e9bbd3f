"""How a command ends: in order, by a deliberate error, or by a signal. Always one short message and a status."""

import atexit
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from rich.markup import escape

from flows.cli.display import errors
from infra.errors import LongmillError

INTERRUPTED = 130


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM. Not a KeyboardInterrupt, which the command-line library would answer in its own words."""


def run_to_the_end(work: Callable[[], object]) -> NoReturn:
    """Do the command's work, then end the process; deliberate errors become a message and their exit status."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        work()
    except LongmillError as error:
        if os.environ.get("LONGMILL_DEBUG"):
            errors.print_exception()
        errors.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
        _leave(error.exit_code)
    except Interrupted:
        errors.print("interrupted: what was paid for is kept, and the same command goes on from there")
        _leave(INTERRUPTED, in_order=False)  # threads that still wait for a reply must not hold the terminal
    except SystemExit as ended:  # what a verb ends with, in the command-line library's way
        _leave(ended.code if isinstance(ended.code, int) else int(ended.code is not None))
    _leave(0)


def _interrupt(number: int, frame: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the second one ends the process at once; its servers end with it
    raise Interrupted


def _leave(status: int, *, in_order: bool = True) -> NoReturn:
    """End at once, without taking the interpreter apart.

    All work is done and kept by now, but threads of native libraries may still let go of Python objects, which
    aborts Python 3.11 while it is taken apart: one `longmill plan` in thirty on a busy machine ended with 134.
    """
    if in_order:
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # a pipe whose reader has gone
            stream.flush()
    os._exit(status)
