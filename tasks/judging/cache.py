"""A small cache of what is computed once per context and shared by all threads that score its answers.

The least recently used value is dropped first, so memory does not grow with the dataset. When two threads need the
same value at once, one computes it and the other waits.
"""

import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

from cachetools import LRUCache

Value = TypeVar("Value")


class SharedCache:
    """At most `limit` values by key. Thread-safe."""

    def __init__(self, limit: int = 64) -> None:
        self._lock = threading.Lock()
        self._values: LRUCache[Hashable, Any] = LRUCache(limit)
        self._locks: LRUCache[Hashable, threading.Lock] = LRUCache(4 * limit)  # one for each value that is computed

    def get(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """The value of `key`; computed when it is not there. What `compute` raises passes through."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            with self._lock:
                if key in self._values:
                    return cast(Value, self._values[key])
            value = compute()
            with self._lock:
                self._values[key] = value
        return value
