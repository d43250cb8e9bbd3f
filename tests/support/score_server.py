"""A stand-in for vLLM with a pooling model: /classify, /pooling and /score, with what a test makes of each text.

`scores(text)` gives the numbers of a conversation, [s] for a reward; the last token's where tokens have scores.
"""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.http_server import http_server

MODEL = "reward"
NO_ROUTE = (404, {"detail": "Not Found"})
WINDOW = 512  # characters


@dataclass
class ScoreServer:
    """What the server has, and what it was sent."""

    scores: Callable[[str], list[float]]
    routes: tuple[str, ...] = ("classify", "pooling", "score")
    every_token: bool = False  # /pooling gives a score for each word
    template: bool = True  # the model's tokenizer has a chat template
    statuses: list[int] = field(default_factory=list)  # of the next requests; then 200
    bodies: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # route, body
    paths: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        route = path.removeprefix("/")
        with self.lock:
            self.paths.append(path)
            self.bodies.append((route, body))
            status = self.statuses.pop(0) if self.statuses else 200
        if status != 200:
            return _error(status, "not now")
        if route not in self.routes:
            return NO_ROUTE if route != "classify" else _error(501, "The model does not support Classification API")
        if body["model"] != MODEL:
            return _error(404, f"The model `{body['model']}` does not exist.")
        if "messages" in body and not self.template:
            return _error(400, "default chat template is no longer allowed, so you must provide a chat template")
        texts = [message["content"] for message in body.get("messages", ())]
        if not texts:
            texts = [body["input"]] if "input" in body else [body["text_1"], body["text_2"]]
        text = "\n".join(texts)
        if len(text) > WINDOW:
            return _error(400, f"This model's maximum context length is {WINDOW} tokens.")
        return 200, {"object": "list", "data": [self._item(route, text)], "usage": {"prompt_tokens": len(text)}}

    def _item(self, route: str, text: str) -> dict[str, Any]:
        values = self.scores(text)
        if route == "score":
            return {"index": 0, "object": "score", "score": values[0]}
        if route == "classify":
            return {"index": 0, "label": "LABEL_0", "probs": values, "num_classes": len(values)}
        data = [*([float(len(word))] for word in text.split()), values] if self.every_token else values
        return {"index": 0, "object": "pooling", "data": data}

    @property
    def called(self) -> list[str]:
        """Routes in the order of the requests."""
        return [route for route, _ in self.bodies]


def _error(status: int, message: str) -> tuple[int, Any]:
    return status, {"error": {"message": message, "type": "BadRequestError", "code": status}}


@contextlib.contextmanager
def running_scores(scores: Callable[[str], list[float]], **options: Any) -> Iterator[ScoreServer]:
    """The server in a thread of this process, for as long as the block runs."""
    state = ScoreServer(scores, **options)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            state.keys.add(self.headers.get("Authorization", ""))
            self._send(*state.answer(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def do_GET(self) -> None:
            self._send(200, {"object": "list", "data": [{"id": MODEL}]})

        def _send(self, status: int, reply: Any) -> None:
            raw = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            pass

    with http_server(Handler) as port:
        state.url = f"http://127.0.0.1:{port}/v1"
        yield state
