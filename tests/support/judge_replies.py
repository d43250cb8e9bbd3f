"""A judge over real HTTP: the stub server, with replies that a test decides and structured output as real servers do.

`says(body)` makes a text of a request's JSON body, (text, finish reason), or a whole response for errors.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal

from aiohttp import web

from flows.bench.stub_server import completion
from tests.support.stub_server import StubOptions, StubServer, running_stub

Body = dict[str, Any]
Says = Callable[[Body], "str | tuple[str, str]"]
Constraining = Literal["obeys", "ignores", "refuses"]


class JudgeServer(StubServer):
    """The stub server with a judge's replies; `bodies` keeps what arrived."""

    def __init__(self, options: StubOptions, says: Says, constraining: Constraining, logprobs: Any = None) -> None:
        super().__init__(options)
        self.says = says
        self.constraining = constraining
        self.logprobs = logprobs
        self.bodies: list[Body] = []

    @property
    def probes(self) -> int:
        """Requests that asked whether replies can be constrained."""
        return sum(prompt_in(body) == "Say hello." for body in self.bodies)

    def _answer(self, raw: bytes, body: Body, content: str) -> web.Response:
        self.bodies.append(body)
        form = body.get("structured_outputs")
        if form and self.constraining == "refuses":
            return refusal("Unknown parameter: 'structured_outputs'.")
        filtered = self.options.filter_word or self.options.prompt_limit
        refused = super()._answer(raw, body, content) if filtered else None
        if refused is not None and refused.status != 200:
            return refused
        said = self.says(body)
        text, finish = said if isinstance(said, tuple) else (said, "stop")
        if form and self.constraining == "obeys":
            text = forced(text, form)
        reply = completion(body["model"], text, 2**20, raw, len(content.split()))
        reply["choices"][0]["finish_reason"] = finish
        if body.get("logprobs"):
            reply["choices"][0]["logprobs"] = self.logprobs
        return web.json_response(reply)


def forced(text: str, form: dict[str, Any]) -> str:
    """The text if it has the form, else one that has it: a literal pattern or the first choice."""
    if "choice" in form:
        return text if text in form["choice"] else str(form["choice"][0])
    if re.fullmatch(form["regex"], text):
        return text
    literal = re.sub(r"\\(.)", r"\1", form["regex"])
    return literal if re.fullmatch(form["regex"], literal) else "r [[0]]" if form["regex"].startswith("[") else "[[0]]"


def refusal(message: str) -> web.Response:
    """A 400 that is neither about length nor about content."""
    return web.json_response({"error": {"message": message, "type": "invalid_request_error"}}, status=400)


def prompt_in(body: Body) -> str:
    """The prompt of a request's body."""
    return str(body["messages"][-1]["content"])


@contextlib.contextmanager
def running_judge(
    says: Says, constraining: Constraining = "ignores", logprobs: Any = None, **options: Any
) -> Iterator[JudgeServer]:
    """A judge in a thread of this process, for as long as the block runs; `options` as StubOptions."""
    made: list[JudgeServer] = []

    def make(settings: StubOptions) -> StubServer:
        made.append(JudgeServer(settings, says, constraining, logprobs))
        return made[0]

    with running_stub(make=make, **options):
        yield made[0]


def logprobs_of(**likeliest: float) -> dict[str, Any]:
    """The logprobs field of a one-token reply, from token → logprob; "_7" is the token "7"."""
    listed = [{"token": token.removeprefix("_"), "logprob": value} for token, value in likeliest.items()]
    return json.loads(json.dumps({"content": [{**listed[0], "top_logprobs": listed}]}))  # type: ignore[no-any-return]
