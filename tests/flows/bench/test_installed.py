"""`longmill bench` works where Longmill is installed: it needs the three packages, no other file of the checkout."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.medium

ROOT = Path(__file__).parents[3]
PICTURES = (".png", ".svg")  # of the documentation

PROGRAM = """
import json, urllib.request
from flows.bench import common

for module in ("stub_server", "stub_judge"):
    with common.stub_server("--latency", "0", module=module) as url:
        prompt = "Task: helpfulness. Answer 1 to question 2, quality 6.00."
        body = json.dumps({"model": "stub", "messages": [{"role": "user", "content": prompt}], "seed": 1}).encode()
        for _ in range(2):
            request = urllib.request.Request(url + "/chat/completions", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=30) as reply:
                text = json.load(reply)["choices"][0]["message"]["content"]
        stats = common.stub_stats(url)
        print(module, common.__file__, stats["requests"], stats["distinct"], stats["paid_twice"], text, sep="|")
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The three packages alone, as an installation has them."""
    for package in ("flows", "tasks", "infra"):
        shutil.copytree(
            ROOT / package, tmp_path / "site" / package, ignore=shutil.ignore_patterns("__pycache__", "box")
        )
    return tmp_path / "site"


def test_the_stubs_run_without_the_tests_and_count_repeated_requests(installed: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = os.environ | {"PYTHONPATH": str(installed)}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=empty, env=environment, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    server, judge = (line.split("|") for line in ended.stdout.splitlines())
    assert server[:5] == ["stub_server", str(installed / "flows/bench/common.py"), "2", "1", "1"]
    assert server[5].startswith("The answer is ")
    assert judge[2:5] == ["2", "1", "1"] and judge[5] in ("[[6]]", "[[7]]")


def test_the_benchmarks_are_loaded_without_prefect_whose_server_starts_after_them() -> None:
    program = "import sys; from flows.bench import benchmarks; benchmarks(); print('prefect' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "False"


def test_a_package_holds_every_file_that_it_needs() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for package in ("flows", "tasks", "infra"):
        packed = {path for pattern in settings[package] for path in (ROOT / package).glob(pattern)}
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc", *PICTURES):
                assert path in packed, path
