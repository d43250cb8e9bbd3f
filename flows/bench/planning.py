"""Planning: tokens a second, by processes, with contexts that are given and with contexts from a pool.

Each plan is made in a process of its own, which is bound to as many cores as it has workers, so that the figure of one
process is that of one core. Texts are sentences of the packaged library in random order: real words, as a tokenizer
meets them. Processor seconds include those of the workers; the parent's alone bound what more workers can bring.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from flows.bench.common import stub_recipe
from tasks.library import library_articles

CONTEXT_TOKENS = 32_000
_CHARACTERS = 4  # a token


def measure(
    questions: int = 400,
    processes: tuple[int, ...] = (1, 2),
    tokenizer: str = "smollm2",
    builds: tuple[str, ...] = ("given", "pooled"),
) -> dict[str, Any]:
    """Figures by kind of context and by number of processes."""
    figures: dict[str, Any] = {"questions": questions, "context_tokens": CONTEXT_TOKENS, "tokenizer": tokenizer}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for build in builds:
            _write_rows(folder / "questions.jsonl", questions, build)
            contexts = {"build": build, "min_tokens": CONTEXT_TOKENS, "max_tokens": CONTEXT_TOKENS}
            for count in processes:
                recipe = stub_recipe(
                    folder / f"{build}-{count}",
                    "http://127.0.0.1:9/v1",
                    questions={"source": str(folder / "questions.jsonl")},
                    policy={"tokenizer": tokenizer},
                    contexts=contexts,
                    execution={"planning_processes": count},
                )
                path = folder / "recipe.yaml"
                path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")), encoding="utf-8")
                command = [sys.executable, "-m", "flows.bench.planning", str(path), str(count)]
                output = subprocess.run(command, check=True, stdout=subprocess.PIPE)
                figures[f"{build}, {count} processes"] = json.loads(output.stdout.splitlines()[-1])
    return figures


def _write_rows(path: Path, questions: int, build: str) -> None:
    """Questions with one long context each, or with two documents of a hundred sentences."""
    rng = random.Random(0)
    sentences: list[str] = []
    for article in library_articles("en").values():
        sentences.extend(filter(None, map(str.strip, article.text.split(". "))))
    mean = sum(map(len, sentences)) / len(sentences) + 2
    with path.open("w", encoding="utf-8") as lines:
        for number in range(questions):
            row: dict[str, Any] = {"id": f"q{number}", "question": f"What is number {number}?", "answers": ["one"]}
            if build == "given":
                row["context"] = ". ".join(rng.choices(sentences, k=int(CONTEXT_TOKENS * _CHARACTERS / mean)))
            else:
                titles = (f"Article {number}", f"Article {number} B")
                row["documents"] = [
                    {"title": title, "text": ". ".join(rng.choices(sentences, k=100))} for title in titles
                ]
            lines.write(json.dumps(row) + "\n")


def main() -> None:
    """Plan the recipe on so many cores and print the figures as JSON."""
    from infra.models.tokens import load_tokenizer
    from infra.recipe import load_recipe
    from infra.store import open_store
    from tasks.planning.make_plan import make_plan

    recipe, cores = load_recipe(sys.argv[1]), int(sys.argv[2])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    load_tokenizer(recipe.policy.tokenizer)  # imports and reads files: not what is measured
    own = _processor_seconds(resource.RUSAGE_SELF)
    start, processor = time.monotonic(), _processor_seconds()
    plan = make_plan(recipe, open_store(recipe.store))
    seconds, processor = time.monotonic() - start, _processor_seconds() - processor
    tokens = sum(shard.prompt_tokens for shard in plan.shards)
    figures = {
        "tokens": tokens,
        "seconds": round(seconds, 2),
        "processor_s": round(processor, 2),
        "parent_processor_s": round(_processor_seconds(resource.RUSAGE_SELF) - own, 2),
        "tokens_per_s": round(tokens / seconds),
        "tokens_per_processor_s": round(tokens / processor),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "worker_peak_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,  # of the largest
        "load": os.getloadavg()[0],
        "plan_id": plan.plan_id,
    }
    print(json.dumps(figures))


def _processor_seconds(*processes: int) -> float:
    """Of these kinds of processes; without one, of this one and of its workers."""
    total = 0.0
    for who in processes or (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


if __name__ == "__main__":
    main()
