"""A stub judge for the benchmarks: no model, but a reply to every step of the terse prompts.

An answer reads "Answer 3 to question 7, quality 6.25."; the stub rates it by that number (another text by a number
drawn from it) and lists `--facts` facts for it, the first `--common` of them the same for all answers to the
question. Ratings are whole numbers and verdicts whole labels whose mean is the quality, drawn from the hash of the
text: of a fact the same, however many are asked about at once. With `--completeness` its ratings of completeness are
drawn around the mean of its other scores, with that correlation within a question. At /score it is a verifier of
facts, at /classify a reward model whose numbers are simulated: they correlate with the judge's rewards by
`--correlation`. Run as `stub_server` is.
"""

import argparse
import asyncio
import hashlib
import math
import re
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

from aiohttp import web

from flows.bench.stub_server import StubServer, completion, serve

_ANSWER = re.compile(r"Answer (\d+) to question (\d+), quality (\d+\.\d+)")
_STATEMENT = re.compile(r"<statement>\n(.*?)\n</statement>", re.DOTALL)
_FACT = re.compile(r"quality (\d+\.\d+) has fact")
_SHARED_QUALITY = 7.0  # of a fact that several answers share
_FASTER = 10  # times: a verifier beside the judge
ASK_JUDGE_WITHIN = 0.2  # of the verifier's threshold, which is a half
_MOST_LOGIT = 8.0  # of the verifier: a mean of 9% wrong
_RATED = ("helpfulness", "logicality")  # by the quality alone
_REWARD_SPREAD = 1.05  # standard deviation of the judge's rewards, where the bench draws its answers
_PART_MEAN, _PART_SPREAD = 6.5, 1.06  # the same of the mean of its scores without completeness
_RATED_SPREAD = math.hypot(_PART_SPREAD, 0.41)  # of completeness: a draw to a whole number adds the latter


class StubJudge(StubServer):
    """A stub server that replies as a judge would: `facts` facts an answer, the first `common` of them shared."""

    def __init__(
        self, latency_s: float, facts: int, common: int, correlation: float, completeness: float | None = None
    ) -> None:
        super().__init__(latency_s)
        self._facts = facts
        self._common = common
        self._correlation = correlation
        self._completeness = completeness

    def add_routes(self, app: web.Application) -> None:
        """The routes of the verifier and of the reward model, which lie beside /v1."""
        app.router.add_post("/score", self._score)
        app.router.add_post("/classify", self._classify)

    async def _classify(self, request: web.Request) -> web.Response:
        body = await request.json()
        await asyncio.sleep(self.latency_s / _FASTER)
        answer = body["messages"][-1]["content"]
        words = sum(message["content"].count(" ") + 1 for message in body["messages"])
        value = reward_number(answer, self._correlation, self._facts, self._common, self._completeness)
        data = [{"index": 0, "label": "reward", "probs": [value], "num_classes": 1}]
        return web.json_response({"object": "list", "data": data, "usage": {"prompt_tokens": words}})

    async def _score(self, request: web.Request) -> web.Response:
        body = await request.json()
        await asyncio.sleep(self.latency_s / _FASTER)
        passages, statement = body["text_1"], body["text_2"]
        tokens = len(passages.split()) + len(statement.split())
        data = [{"index": 0, "object": "score", "score": verifier_number(statement)}]
        return web.json_response({"object": "list", "data": data, "usage": {"prompt_tokens": tokens}})

    def _answer(self, raw: bytes, body: dict[str, Any], content: str) -> web.Response:
        text = judge_reply(content, self._facts, self._common, self._completeness)
        return web.json_response(completion(body["model"], text, 4096, raw, len(content.split())))


def judge_reply(prompt: str, facts: int, common: int, completeness: float | None = None) -> str:
    """The reply to a terse prompt, whose first line names its step."""
    step = prompt.partition("\n")[0].removeprefix("Task: ")
    if step == "notes":
        return "The part says that the harbour was built, and by whom."
    if step == "support":
        statement = _STATEMENT.findall(prompt)[-1]
        return _label(statement, statement)
    if step == "supports":
        labels = []
        for number, statement in re.findall(r'<statement number="(\d+)">\n(.*?)\n</statement>', prompt, re.DOTALL):
            labels.append(f"{number}. {_label(statement, statement)}")
        return "\n".join(labels)
    answers = _ANSWER.findall(prompt)
    number, question, quality = answers[-1] if answers else ("0", "0", f"{10 * _draw(prompt):.2f}")
    if step in ("facts", "sentence-facts"):
        statements = _facts_of(number, question, quality, facts, common)
        return "\n".join(f"<statement>{statement}</statement>" for statement in statements)
    if step == "completeness" and answers and completeness is not None:
        return f"[[{_completeness_of(answers[-1], facts, common, completeness)}]]"
    return f"[[{int(float(quality) + _draw(step, number, question))}]]"


def verifier_number(statement: str) -> float:
    """A log-odds of support, calibrated to the stub's own verdicts: it is wrong as often as its size says."""
    supported = _label(statement, statement) == "[[Fully supported]]"
    size = _MOST_LOGIT * _draw("size", statement)
    if _draw("wrong", statement) < 1 / (1 + math.exp(size)):
        supported = not supported
    return size if supported else -size


def full_reward(
    answer: str, facts: int, common: int, completeness: float | None = None, verified: bool = False
) -> float:
    """The reward that LongReward's scorers make of the stub's own replies on an answer.

    `verified`: with the verdicts of the verifier, and the judge's near its threshold.
    """
    parts = _ANSWER.findall(answer)[-1]
    return (3 * _part_reward(parts, facts, common, verified) + _completeness_of(parts, facts, common, completeness)) / 4


def part_reward(answer: str, facts: int, common: int, verified: bool = False) -> float:
    """The same without completeness."""
    return _part_reward(_ANSWER.findall(answer)[-1], facts, common, verified)


def _part_reward(parts: Sequence[str], facts: int, common: int, verified: bool = False) -> float:
    number, question, quality = parts
    scores = [_rounded(float(quality), step, number, question) for step in _RATED]
    supported = 0
    for fact in _facts_of(number, question, quality, facts, common):
        number_of_fact = verifier_number(fact)
        if verified and abs(1 / (1 + math.exp(-number_of_fact)) - 0.5) >= ASK_JUDGE_WITHIN:
            supported += number_of_fact > 0
        else:
            supported += _label(fact, fact) == "[[Fully supported]]"
    return (sum(scores) + 10 * supported / facts) / (len(scores) + 1)


def _completeness_of(parts: Sequence[str], facts: int, common: int, correlation: float | None) -> int:
    """The rating of an answer's completeness; `parts`: its number, its question and its quality.

    A rating of the answer's own quality, or one that correlates with its other scores within a question as is given.
    """
    number, question, quality = parts
    if correlation is None:
        return _rounded(float(quality), "completeness", number, question)
    before_rounding = correlation * _RATED_SPREAD / _PART_SPREAD
    shared = before_rounding * (_part_reward(parts, facts, common) - _PART_MEAN)
    own = _PART_SPREAD * math.sqrt(1 - before_rounding**2) * _normal("completeness of its own", number, question)
    return min(10, max(0, _rounded(_PART_MEAN + shared + own, "completeness", number, question)))


def _rounded(value: float, *parts: str) -> int:
    """One of the two whole numbers around a value, drawn so that their mean is the value."""
    return math.floor(value + _draw(*parts))


def _normal(*parts: str) -> float:
    """A standard normal number that the parts determine."""
    return NormalDist().inv_cdf(min(1 - 1e-9, max(1e-9, _draw(*parts))))


def reward_number(answer: str, correlation: float, facts: int, common: int, completeness: float | None = None) -> float:
    """The simulated reward model's number: the judge's reward and noise, as much as the correlation says."""
    if not _ANSWER.search(answer):
        return 0.0
    noise = _normal("reward model", answer)
    of_rewards = _REWARD_SPREAD
    if completeness is not None:
        both = 6 * completeness * _PART_SPREAD * _RATED_SPREAD
        of_rewards = math.sqrt(9 * _PART_SPREAD**2 + _RATED_SPREAD**2 + both) / 4
    spread = of_rewards * math.sqrt(1 / correlation**2 - 1)
    return round(full_reward(answer, facts, common, completeness) + spread * noise, 6)


def _facts_of(number: str, question: str, quality: str, facts: int, common: int) -> list[str]:
    statements = []
    for index in range(facts):
        owner = f"Question {question}" if index < common else f"Answer {number} of quality {quality}"
        statements.append(f"{owner} has fact {index}.")
    return statements


def _label(text: str, seed: str) -> str:
    """The verdict on the last fact of a text: favourable as often as the quality of its answer says."""
    qualities = _FACT.findall(text)
    quality = float(qualities[-1]) if qualities else _SHARED_QUALITY
    return "[[Fully supported]]" if _draw(seed) < quality / 10 else "[[No support]]"


def _draw(*parts: str) -> float:
    """A number in [0, 1) that the parts determine."""
    return int(hashlib.sha256("|".join(parts).encode()).hexdigest()[:8], 16) / 2**32


def main() -> None:
    """Serve the judge that the arguments describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds before each chat reply")
    parser.add_argument("--facts", type=int, default=20, help="facts of an answer")
    parser.add_argument("--common", type=int, default=0, help="facts that all answers to a question share")
    parser.add_argument("--correlation", type=float, default=0.95, help="of the reward model's numbers, simulated")
    parser.add_argument("--completeness", type=float, help="correlation of completeness with the other scores")
    arguments = parser.parse_args()
    settings = (
        arguments.latency,
        arguments.facts,
        arguments.common,
        arguments.correlation,
        arguments.completeness,
    )
    asyncio.run(serve(StubJudge(*settings), arguments.port))


if __name__ == "__main__":
    main()
