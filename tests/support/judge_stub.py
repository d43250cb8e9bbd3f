"""A stub judge as a process of its own: no model, but the terse prompts' steps, after a fixed latency.

For `longmill bench judging`. An answer is "Answer 3 to question 7, quality 6.25."; the stub rates it by that number
and lists `--facts` facts for it, the first `--common` of them the same for all answers to the question. Ratings are
whole numbers and verdicts whole labels whose mean is the quality, drawn from the hash of the text. Also serves
embeddings (`stub_replies.stub_embedding`) and counts what it was asked, at /stub/stats.
"""

import argparse
import asyncio
import hashlib
import json
import re
from collections import Counter
from typing import Any

from aiohttp import web

from tests.support.stub_replies import completion, stub_embedding

_ANSWER = re.compile(r"Answer (\d+) to question (\d+), quality (\d+\.\d+)")
_FACT = re.compile(r"quality (\d+\.\d+) has fact")


def draw(*parts: object) -> float:
    """A number in [0, 1) from the parts alone."""
    return int(hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:8], 16) / 2**32


def reply(prompt: str, facts: int, common: int) -> str:
    """What the stub says to a terse prompt."""
    step = prompt.partition("\n")[0].removeprefix("Task: ")
    if step == "notes":
        return "The part says that the harbour was built, and by whom."
    if step == "support":
        return _label(prompt, prompt[-200:])
    if step == "supports":
        statements = re.findall(r'<statement number="(\d+)">\n(.*?)\n</statement>', prompt, re.DOTALL)
        return "\n".join(f"{number}. {_label(statement, statement)}" for number, statement in statements)
    number, question, quality = _ANSWER.findall(prompt)[-1]
    if step == "facts":
        shared = [f"Question {question} has fact {each}." for each in range(common)]
        own = [f"Answer {number} of quality {quality} has fact {each}." for each in range(common, facts)]
        return "\n".join(f"<statement>{each}</statement>" for each in [*shared, *own])
    return f"[[{int(float(quality) + draw(step, number, question))}]]"


def _label(text: str, drawn_from: str) -> str:
    """The verdict on the last fact of a text: right as often as the quality of its answer says."""
    found = _FACT.findall(text)
    quality = float(found[-1]) if found else 7.0
    return "[[Fully supported]]" if draw(drawn_from) < quality / 10 else "[[No support]]"


class JudgeStub:
    """The application and its counts."""

    def __init__(self, latency_s: float, facts: int, common: int) -> None:
        self.latency_s, self.facts, self.common = latency_s, facts, common
        self.steps: Counter[str] = Counter()
        self.embedded = 0

    def application(self) -> web.Application:
        application = web.Application(client_max_size=2**28)
        application.router.add_post("/v1/chat/completions", self.chat)
        application.router.add_post("/v1/embeddings", self.embeddings)
        application.router.add_get("/stub/stats", self.stats)
        return application

    async def chat(self, request: web.Request) -> web.Response:
        raw = await request.read()
        body = json.loads(raw)
        prompt = body["messages"][-1]["content"]
        self.steps[prompt.partition("\n")[0].removeprefix("Task: ")] += 1
        await asyncio.sleep(self.latency_s)
        text = reply(prompt, self.facts, self.common)
        return web.json_response(completion(body["model"], text, 4096, raw, len(prompt.split())))

    async def embeddings(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.embedded += len(body["input"])
        data = [
            {"object": "embedding", "index": i, "embedding": stub_embedding(t)} for i, t in enumerate(body["input"])
        ]
        return web.json_response({"object": "list", "model": body["model"], "data": data, "usage": {}})

    async def stats(self, request: web.Request) -> web.Response:
        stats: dict[str, Any] = {"steps": self.steps, "embedded": self.embedded}
        return web.json_response(stats)


async def _serve(stub: JudgeStub, port: int) -> None:
    runner = web.AppRunner(stub.application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=2048).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--facts", type=int, default=20)
    parser.add_argument("--common", type=int, default=0)
    arguments = parser.parse_args()
    asyncio.run(_serve(JudgeStub(arguments.latency, arguments.facts, arguments.common), arguments.port))


if __name__ == "__main__":
    main()
