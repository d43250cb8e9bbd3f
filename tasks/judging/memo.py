"""What is worked out once per context and shared by all that judge its answers, from any thread.

The least recently used values go first, so memory does not grow with the dataset. Two threads that want the same
value at once: one makes it, the other waits.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

Value = TypeVar("Value")


class Memo:
    """At most `limit` values by key."""

    def __init__(self, limit: int = 64) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, object] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of `key`, made by `make` when it is not there. What `make` raises passes through."""
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._values:
                    self._values.move_to_end(key)
                    return cast(Value, self._values[key])
            value = make()
            with self._lock:
                self._values[key] = value
                while len(self._values) > self._limit:
                    gone, _ = self._values.popitem(last=False)
                    self._making.pop(gone, None)
        return value
