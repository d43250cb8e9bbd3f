"""`longmill compare` over served models, without a recipe: one table of them all."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from flows.cli.app import compare
from infra.errors import UsageError
from tests.support.judge_replies import running_judge
from tests.support.planning import write_rows

ROOT = Path(__file__).parents[3]
ANSWERS = {"small": "Bergen", "middle": "Oslo, or Rome", "large": "Oslo"}  # by model
ROWS = [{"id": name, "question": "Where?", "context": f"{name}. Oslo.", "answers": ["Oslo"]} for name in "ab"]


def compared(folder: Path, *options: str) -> str:
    command = [sys.executable, "-m", "flows.cli", "compare", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_served_models_stand_in_one_table(folder: Path) -> None:
    rows = write_rows(folder / "rows.jsonl", ROWS)
    options = ["--suite", f"qa={rows}", "--store", "mill", "--tokenizer", "microworld", "--window", "4096"]
    with ExitStack() as stack:
        servers, models = [], []
        for name, answer in ANSWERS.items():
            servers.append(stack.enter_context(running_judge(lambda body, answer=answer: answer, model=name)))
            models.append(f"{name}={servers[-1].url}")
            options += ["--model", models[-1]]
        outcome = json.loads(compared(folder, *options, "--json"))
        table = compared(folder, *options)
        assert [server.requests for server in servers] == [len(ROWS)] * 3  # nothing was asked again
    figures = {model["name"]: model["suites"]["qa"]["sub_em"]["figure"]["value"] for model in outcome["models"]}
    assert figures == {"small": 0.0, "middle": 1.0, "large": 1.0}
    of_f1 = {model["name"]: model["suites"]["qa"]["token_f1"]["figure"]["value"] for model in outcome["models"]}
    assert of_f1 == {"small": 0.0, "middle": 0.5, "large": 1.0}
    assert all(name in table for name in ANSWERS)
    page = (folder / "mill" / outcome["report"] / "report.html").read_text()
    assert f"longmill evaluate --model {models[0]}" in page  # the command that makes the table again
    assert "--tokenizer microworld --window 4096" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"models": ["a=http://x/v1"]}, "two served models"),
        ({"vary": ["sampling.samples=1,2"]}, "without a recipe only served models"),
        ({"recipe": "demo-sealong", "suite": ["qa"]}, "--suite and --judge are about models"),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_starts(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        compare(**arguments)
