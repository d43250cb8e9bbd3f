"""What `kill -9` costs: a build is killed midway and run again; the stub server counts what it was asked twice.

Also compares the manifest with an undisturbed run's, byte by byte: the stub answers a request the same way
each time.
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
    """Calls paid again after `kills` kills, beside the calls that may be in flight."""
    with tempfile.TemporaryDirectory() as name, stub_server("--latency", "0.2") as url:
        folder = Path(name)
        write_questions(folder / "questions.jsonl", QUESTIONS, 4000)
        disturbed = _recipe_file(folder, url, "disturbed")
        again = []
        for number in range(kills):
            _kill_midway(folder, disturbed, url, QUESTIONS * SAMPLES * (number + 1) // (kills + 1))
            again.append(_asked_again(url))
        _build(folder, disturbed).wait()
        total_again = _asked_again(url)
        manifest = _manifest(folder / "disturbed")
        _build(folder, _recipe_file(folder, url, "undisturbed")).wait()
        return {
            "calls": QUESTIONS * SAMPLES,
            "concurrency": CONCURRENCY,
            "kills": kills,
            "paid_again": total_again,
            "paid_again_after_each": [*again[1:], total_again],
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
    """Kill the build once the stub has been asked `calls` times in all."""
    build = _build(folder, recipe)
    while build.poll() is None and stub_stats(url)["requests"] < calls:
        time.sleep(0.02)
    os.kill(build.pid, signal.SIGKILL)
    build.wait()
    time.sleep(0.5)  # what was in flight arrives at the stub and is counted


def _asked_again(url: str) -> int:
    stats = stub_stats(url)
    return int(stats["requests"] - stats["distinct"])


def _manifest(store: Path) -> bytes:
    (path,) = store.glob("datasets/bench/*/manifest.json")
    return path.read_bytes()
