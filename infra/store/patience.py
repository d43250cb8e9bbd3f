"""Waiting for an object store that is away for a while: it restarts, the network is cut, or it is asked too much.

The client itself tries for a few seconds. A build should outlast more than that without a failed shard. A store that
has never answered in this process is not waited for: its URL may be wrong.
"""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from infra.running import progress

AWAY_S = 60.0  # that a store may be away
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 5.0

Value = TypeVar("Value")


class Patience:
    """Repeats requests to the store at `url` while it is away, as `is_away` sees by the error. Thread-safe."""

    def __init__(self, url: str, is_away: Callable[[BaseException], bool]) -> None:
        self._url = url
        self._is_away = is_away
        self._has_answered = False
        self._is_reported = False  # that it is away
        self._lock = threading.Lock()

    def ask(self, request: Callable[[], Value]) -> Value:
        """What `request` returns; it is made again while the store is away, for up to `AWAY_S` seconds."""
        deadline = time.monotonic() + AWAY_S
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                value = request()
            except Exception as error:
                away = self._is_away(error)
                self._has_answered = self._has_answered or not away
                if not away or not self._has_answered or time.monotonic() + pause_s > deadline:
                    raise
                self._say_once(error)
                time.sleep(pause_s)
                pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)
            else:
                self._has_answered = True
                self._is_reported = False
                return value

    def _say_once(self, error: Exception) -> None:
        with self._lock:
            was_reported, self._is_reported = self._is_reported, True
        if not was_reported:
            progress.say(f"{self._url} does not answer ({type(error).__name__}); waiting up to {AWAY_S:.0f} s for it")
