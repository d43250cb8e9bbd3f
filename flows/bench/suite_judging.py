"""Judge calls of a suite beside a bare aiohttp loop that sends the same bodies, on the same stub judge.

The suite `longbench_chat` grades answers: quoting, prompts, keys, the ledger on a local folder, reading the grades. The
loop has the bodies ready, posts them and reads the text between double brackets. Both turn by turn; a third figure is
the suite within a flow run, span by span as an evaluation does it.
"""

import asyncio
import re
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

from flows.bench.common import median_ratio, stub_server
from infra.models.client import Request
from infra.recipe import Recipe, parse_recipe
from tasks.evaluation.suites import Suite, SuiteAnswer, find_suite
from tasks.records.example import Context, Example
from tasks.resources import RunResources, open_resources
from tasks.scoring.run import InThread, StepRunner, run_to_end

CALLS, IN_FLIGHT, ROUNDS, SPANS = 2000, 256, 3, 8
_HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer none"}
_SENTENCE = "It says that the harbour was built in four years. "
_GRADE = re.compile(r"\[\[(\d+)\]\]")


def measure(calls: int = CALLS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Calls per second of loop, suite and suite in a flow run, by round, and the medians of their ratios."""
    suite, answers = find_suite("longbench_chat"), _answers(calls)
    rates: dict[str, list[float]] = {"bare": [], "suite": [], "suite_in_flow": []}
    with stub_server("--latency", "0", module="stub_judge") as url, tempfile.TemporaryDirectory() as folder:
        bodies = _bodies(suite, answers, _recipe(url, f"{folder}/bodies"))
        _bare_rate(url, bodies)  # warms up; not counted
        for number in range(rounds):
            rates["bare"].append(_bare_rate(url, bodies))
            rates["suite"].append(_suite_rate(suite, answers, _recipe(url, f"{folder}/suite{number}")))
            rates["suite_in_flow"].append(_flow_rate(suite, answers, _recipe(url, f"{folder}/flow{number}")))
    return {
        "calls": calls,
        "in_flight": IN_FLIGHT,
        "calls_per_s": {name: list(map(round, of_way)) for name, of_way in rates.items()},
        "ratio_median": round(median_ratio(rates["suite"], rates["bare"]), 3),
        "ratio_in_flow_median": round(median_ratio(rates["suite_in_flow"], rates["bare"]), 3),
    }


def _answers(count: int) -> list[SuiteAnswer]:
    answers = []
    for number in range(count):
        name = f"q{number}"
        question = f"What does chapter {number} say of the harbour, and of those who built it?"
        text = f"Answer 1 to question {number}, quality 6.00. " + _SENTENCE * 12
        example = Example(name, question, name, ("The harbour took four years.",), "", "en", "{}")
        answers.append(SuiteAnswer(example, Context(name, "", 0, (), (), ()), text))
    return answers


def _recipe(url: str, store: str) -> Recipe:
    model = {"name": "stub", "tokenizer": "microworld", "endpoints": [url]}
    Path(store).mkdir(parents=True)
    return parse_recipe(
        {
            "name": "bench",
            "store": store,
            "questions": {"source": "none"},
            "policy": model,
            "judge": {**model, "structured": "never", "replies": 1},
            "scoring": {"scorers": [{"scorer": "helpfulness"}]},
            "dataset": {"name": "bench", "licence": "other"},
            "execution": {"concurrency": IN_FLIGHT, "contexts_in_flight": IN_FLIGHT, "judge_trial": 0},
            "evaluation": {"suites": ["longbench_chat"]},
        }
    )


class _Recording:
    """In place of a judge's client: keeps the requests and answers none."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def complete(self, requests: Sequence[Request]) -> list[Any]:
        self.requests.extend(requests)
        raise InterruptedError


def _bodies(suite: Suite, answers: Sequence[SuiteAnswer], recipe: Recipe) -> list[bytes]:
    """The bodies of the suite's calls."""
    recording: Any = _Recording()
    with open_resources(recipe) as resources:
        scoring = replace(resources.scoring(), judge=recording)
        assert suite.judge is not None
        try:
            run_to_end(suite.judge.score(answers, suite.settings(), scoring), InThread(scoring))
        except InterruptedError:
            return [request.body() for request in recording.requests]
    raise AssertionError("the suite made no call")


def _bare_rate(url: str, bodies: Sequence[bytes]) -> float:
    return asyncio.run(_bare(f"{url}/chat/completions", bodies))


async def _bare(url: str, bodies: Sequence[bytes]) -> float:
    waiting = iter(bodies)
    grades: list[int] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT)) as session:

        async def work() -> None:
            for body in waiting:
                async with session.post(url, data=body, headers=_HEADERS) as response:
                    text = (await response.json())["choices"][0]["message"]["content"]
                    grades.append(int(_GRADE.findall(text)[-1]))

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        return len(grades) / (time.perf_counter() - started)


def _suite_rate(suite: Suite, answers: Sequence[SuiteAnswer], recipe: Recipe) -> float:
    with open_resources(recipe) as resources:
        started = time.perf_counter()
        _judge(suite, answers, resources, InThread(resources.scoring()))
        return len(answers) / (time.perf_counter() - started)


def _flow_rate(suite: Suite, answers: Sequence[SuiteAnswer], recipe: Recipe) -> float:
    from prefect import flow

    from flows.task_threads import task_threads
    from tasks.evaluation.task_work import WorkInTasks

    @flow(name="bench-suite-judging")
    def judge_all() -> float:
        with open_resources(recipe) as resources:
            stopped = threading.Event()
            with task_threads(resources, "bench", stopped) as step, task_threads(resources, "bench", stopped) as span:
                work = WorkInTasks(resources, span, step)
                started = time.perf_counter()
                size = -(-len(answers) // SPANS)
                futures: list[Future[Any]] = []
                for start in range(0, len(answers), size):
                    of_span = answers[start : start + size]
                    label = f"questions {start + 1}-{start + len(of_span)}"
                    futures.append(work.submit(_judge, suite, of_span, resources, work.steps(label)))
                for future in futures:
                    future.result()
                return len(answers) / (time.perf_counter() - started)

    return judge_all()


def _judge(suite: Suite, answers: Sequence[SuiteAnswer], resources: RunResources, runner: StepRunner) -> None:
    assert suite.judge is not None
    scores = run_to_end(suite.judge.score(answers, suite.settings(), resources.scoring()), runner)
    missing = [score for of_answer in scores for score in of_answer.values() if score.value is None]
    assert not missing, missing[0]
