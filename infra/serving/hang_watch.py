"""Finds out whether a server that runs still works: one may answer health checks while its engine stands still.

Signs of life are the token counters of vLLM's /metrics, when they move, and the reply to a call of one token. That call
is sent when nothing was seen for a third of the time-out, so a busy server gets none. Calls of all processes count,
since the server itself is looked at. Leaves out: a server whose process has ended, which its process tells.
"""

import re
import threading
import time
import urllib.error

from infra.serving import local_http

_COUNTERS = re.compile(rb"^vllm:(?:prompt|generation)_tokens_total(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_METRICS_S = 10.0  # for one look at the counters


class HangWatch:
    """Watches one server in a thread of its own, from now until `stop`."""

    def __init__(self, port: int, model: str, timeout_s: float, api_key: str | None = None) -> None:
        """`model` is called; without a sign of life for `timeout_s` seconds the server counts as hung."""
        self._base = f"http://127.0.0.1:{port}"
        self._model = model
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._stopped = threading.Event()
        self._hung = threading.Event()
        self._tokens: float | None = None
        self._last_sign = time.monotonic()
        threading.Thread(target=self._watch, name=f"hang-watch-{port}", daemon=True).start()

    @property
    def hung(self) -> bool:
        """True from the moment when the server has given no sign of life for too long."""
        return self._hung.is_set()

    def stop(self) -> None:
        """End watching; a call that is in flight ends with the server or its time-out."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(self._timeout_s / 30):
            if self._tokens_moved():
                self._last_sign = time.monotonic()
                continue
            silent_s = time.monotonic() - self._last_sign
            if silent_s < self._timeout_s / 3:
                continue
            if self._replies(max(0.1, self._timeout_s - silent_s)) or self._tokens_moved():
                self._last_sign = time.monotonic()
            elif time.monotonic() - self._last_sign >= self._timeout_s:
                self._hung.set()
                return

    def _tokens_moved(self) -> bool:
        """Whether tokens were read or written since the last look; False where there is no such counter."""
        try:
            text = local_http.get(f"{self._base}/metrics", min(_METRICS_S, self._timeout_s), self._api_key)
        except OSError:
            return False
        tokens = sum(map(float, _COUNTERS.findall(text)))
        moved = tokens != self._tokens and self._tokens is not None
        self._tokens = tokens
        return moved

    def _replies(self, timeout_s: float) -> bool:
        """Whether the server replies to a call of one token. It may refuse the call: that is a reply."""
        call = {"model": self._model, "messages": [{"role": "user", "content": "."}], "max_tokens": 1}
        try:
            local_http.post(f"{self._base}/v1/chat/completions", call, timeout_s, self._api_key)
        except urllib.error.HTTPError as error:
            return error.code < 500
        except OSError:
            return False
        return True
