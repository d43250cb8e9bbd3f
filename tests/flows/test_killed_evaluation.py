"""An evaluation of 500 judged questions that is killed goes on where it was, and pays for nothing again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.recipe import Recipe, parse_recipe
from tests.support.judge_replies import running_judge
from tests.support.planning import write_rows
from tests.support.stub_server import running_stub

ROOT = Path(__file__).parents[2]
QUESTIONS, IN_FLIGHT = 500, 16
PROGRAM = """
import json, sys
from dataclasses import asdict
from flows.evaluate import evaluation_rows, questions_and_servers
from infra.recipe import parse_recipe

with questions_and_servers(parse_recipe(json.loads(sys.argv[1])), None) as (questions, settings):
    rows, _, calls = evaluation_rows(questions, settings, None)
print(json.dumps([[row.scores["judged"] for row in rows], {kind: asdict(counts) for kind, counts in calls.items()}]))
"""


def recipe_for(folder: Path, url: str, judge_url: str) -> Recipe:
    rows = []
    for number in range(QUESTIONS):
        context = f"Report {number} says that the dam was built by Ann Lee."
        row = {"id": f"q{number}", "question": f"Who built dam {number}?", "context": context, "answers": ["Ann Lee"]}
        rows.append(row)
    write_rows(folder / "questions.jsonl", rows)
    model = {"name": "stub", "tokenizer": "microworld", "endpoints": [url]}
    suite = {"name": "longbench_chat", "questions": {"source": str(folder / "questions.jsonl"), "format": "native"}}
    return parse_recipe(
        {
            "name": "killed",
            "store": str(folder / "mill"),
            "questions": {"source": "none"},
            "policy": model,
            "judge": {**model, "endpoints": [judge_url], "structured": "never"},
            "scoring": {"scorers": [{"scorer": "helpfulness"}]},
            "dataset": {"name": "killed", "licence": "mit"},
            "execution": {"concurrency": IN_FLIGHT, "batch_calls": 64},
            "evaluation": {"suites": [suite], "resamples": 20},
        }
    )


def started(recipe: Recipe) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PROGRAM, json.dumps(recipe.model_dump(mode="json"))]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_an_evaluation_that_is_killed_pays_for_nothing_twice(folder: Path) -> None:
    with running_stub(latency=0.005) as stub, running_judge(lambda body: "[[7]]") as judge:
        recipe = recipe_for(folder, stub.url, judge.url)
        with started(recipe) as first:
            while judge.requests < 100:  # so that answers and judgements are in the ledger
                assert first.poll() is None
                time.sleep(0.01)
            first.send_signal(signal.SIGKILL)
        replied, graded = stub.requests, judge.requests
        assert replied < QUESTIONS
        with started(recipe) as second:
            scores, calls = json.loads(second.communicate()[0])
        assert scores == [0.7] * QUESTIONS
        answers, grades = calls["evaluate"], calls["evaluate_rate_by_examples"]
        assert answers["made"] + answers["reused"] == grades["made"] + grades["reused"] == QUESTIONS
        # Lost are the calls that were in flight when it was killed, and no others.
        assert stub.requests - QUESTIONS <= IN_FLIGHT
        assert judge.requests - QUESTIONS <= IN_FLIGHT
        assert answers["reused"] >= replied - IN_FLIGHT
        assert grades["reused"] >= graded - IN_FLIGHT
