"""Stopping in order: the first signal (Ctrl-C, SIGTERM) lets calls in flight end, the second ends the process at once.

The first signal becomes an exception in the main thread: by the command line's handler, or by Prefect's, which must
stay in place while a flow runs. Whoever then waits for calls does it within `next_signal_ends`.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def next_signal_ends() -> Iterator[None]:
    """Let a signal end the process within the block, as if nobody handled it; outside of the main thread nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.signal(number, signal.SIG_DFL) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: it was not Python's
