"""What `kill -9` costs: a build is killed midway and run again; the stub server counts the requests that come twice.

Also compares the manifest with that of a build that was not killed, byte by byte: the stub gives the same reply to
the same request.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from flows.bench.common import stub_recipe, stub_server, stub_stats, write_questions

QUESTIONS, SAMPLES, CONCURRENCY = 120, 8, 64


def measure(kills: int = 3) -> dict[str, Any]:
    """Calls paid again after `kills` kills, and how many may be: those in flight at each kill."""
    with tempfile.TemporaryDirectory() as name, stub_server("--latency", "0.2") as url:
        folder = Path(name)
        write_questions(folder / "questions.jsonl", QUESTIONS, 4000)
        recipe = _recipe_file(folder, url, "disturbed")
        paid_again = []  # in all, after each kill
        for number in range(kills):
            _kill_midway(folder, recipe, url, QUESTIONS * SAMPLES * (number + 1) // (kills + 1))
            paid_again.append(_paid_again(url))
        _build(folder, recipe).wait()
        total = _paid_again(url)
        manifest = _manifest(folder / "disturbed")
        _build(folder, _recipe_file(folder, url, "undisturbed")).wait()
        return {
            "calls": QUESTIONS * SAMPLES,
            "concurrency": CONCURRENCY,
            "kills": kills,
            "paid_again": total,
            "paid_again_after_each": [*paid_again[1:], total],
            "allowed": kills * CONCURRENCY,
            "manifest_identical": manifest == _manifest(folder / "undisturbed"),
        }


def _recipe_file(folder: Path, url: str, store: str) -> Path:
    recipe = stub_recipe(folder, url, execution={"concurrency": CONCURRENCY, "shard_size": 20, "batch_calls": 32})
    path = folder / f"{store}.yaml"
    settings = recipe.model_dump(mode="json") | {"store": str(folder / store)}
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def _build(folder: Path, recipe: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flows.cli", "build", str(recipe), "--json"]
    with (folder / "build.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def _kill_midway(folder: Path, recipe: Path, url: str, calls: int) -> None:
    """Kill the build once `calls` requests have reached the stub, in all."""
    build = _build(folder, recipe)
    while build.poll() is None and stub_stats(url)["requests"] < calls:
        time.sleep(0.02)
    os.kill(build.pid, signal.SIGKILL)
    build.wait()
    time.sleep(0.5)  # what was in flight arrives at the stub and is counted


def _paid_again(url: str) -> int:
    stats = stub_stats(url)
    return int(stats["requests"] - stats["distinct"])


def _manifest(store: Path) -> bytes:
    (path,) = store.glob("datasets/bench/*/manifest.json")
    return path.read_bytes()
