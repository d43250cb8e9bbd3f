"""What the benchmarks share: a stub model server in a process of its own, questions, a recipe for them."""

import contextlib
import json
import random
import statistics
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from flows.bench.machine import ROOT
from infra.errors import ServingError
from infra.recipe import Recipe, parse_recipe
from tasks.records.plan import Plan
from tasks.resources import RunResources


@contextlib.contextmanager
def stub_server(
    *arguments: str, module: Literal["stub_server", "stub_judge", "stub_asker"] = "stub_server"
) -> Iterator[str]:
    """Run a stub of this package as a process; yields its base URL ending in /v1.

    Raises ServingError when it ends before it listens.
    """
    command = [sys.executable, "-m", f"flows.bench.{module}", "--port", "0", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            if not port:
                raise ServingError(
                    f"the benchmarks' stub server did not start; its error is above. Command: {' '.join(command)}"
                )
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.kill()


def stub_stats(url: str) -> dict[str, Any]:
    """The stub's own counts: `requests`, `answered`, `distinct` and `paid_twice`."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/stub/stats", timeout=30) as reply:  # noqa: S310
        stats: dict[str, Any] = json.load(reply)
    return stats


def write_questions(path: Path, count: int, context_characters: int, seed: int = 0) -> None:
    """Questions over contexts of random words, of about so many characters, one context each."""
    rng = random.Random(seed)
    words = []
    for _ in range(5000):
        letters = rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))
        words.append("".join(letters))
    with path.open("w", encoding="utf-8") as lines:
        for number in range(count):
            text = " ".join(rng.choices(words, k=context_characters // 7))
            row = {"id": f"q{number}", "question": f"What is {words[number % 5000]}?", "context": text}
            lines.write(json.dumps(row) + "\n")


def rounded(values: Sequence[float], digits: int) -> list[float]:
    """The figures of all rounds, to so many decimals."""
    return [round(value, digits) for value in values]


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median over the rounds of one figure divided by another."""
    ratios = []
    for numerator, denominator in zip(numerators, denominators, strict=True):
        ratios.append(numerator / denominator)
    return statistics.median(ratios)


def run_as_flow(resources: RunResources, plan: Plan) -> None:
    """Work on all shards of a plan, in a flow run of its own, as a build does."""
    from prefect import flow

    from flows.build import run_shards

    @flow(name="bench")
    def bench() -> None:
        run_shards(resources, plan, [shard.index for shard in plan.shards])

    bench()


def stub_recipe(folder: Path, url: str, **sections: dict[str, Any]) -> Recipe:
    """A recipe over `folder`/questions.jsonl and the stub; `sections` are merged in."""
    settings: dict[str, Any] = {
        "name": "bench",
        "store": str(folder / "store"),
        "questions": {"source": str(folder / "questions.jsonl")},
        "policy": {"name": "stub", "tokenizer": "microworld", "endpoints": [url], "context_window": 2_000_000},
        "sampling": {"samples": 8, "max_tokens": 64},
        "scoring": {"scorers": [{"scorer": "consensus", "similarity": "rouge_l"}]},
        "dataset": {"name": "bench", "licence": "cc0-1.0"},
        "execution": {"concurrency": 256, "contexts_in_flight": 256},
        "training": None,
        "evaluation": None,
    }
    for name, changes in sections.items():
        settings[name] = (settings.get(name) or {}) | changes
    return parse_recipe(settings)
