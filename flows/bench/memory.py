"""Peak memory of building a dataset of 2 GB of context text, in a process of its own, against the stub."""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from flows.bench.common import stub_recipe, stub_server, write_questions

CONTEXT_CHARACTERS = 256_000  # about 64k tokens of English


def measure(gigabytes: float = 2.0) -> dict[str, Any]:
    """Peak resident memory of the build, in GB, its pairs, and its seconds by step."""
    count = int(gigabytes * 1e9 / CONTEXT_CHARACTERS)
    with tempfile.TemporaryDirectory() as name, stub_server("--latency", "0") as url:
        folder = Path(name)
        write_questions(folder / "questions.jsonl", count, CONTEXT_CHARACTERS)
        size = (folder / "questions.jsonl").stat().st_size
        recipe = stub_recipe(folder, url, sampling={"samples": 4, "max_tokens": 64}, execution={"shard_size": 64})
        path = folder / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")), encoding="utf-8")
        output = subprocess.run(
            [sys.executable, "-m", "flows.bench.memory", str(path)], check=True, stdout=subprocess.PIPE
        )
    return {"context_gb": round(size / 1e9, 2), "questions": count, **json.loads(output.stdout.splitlines()[-1])}


def main() -> None:
    """Build the recipe and print this process's peak memory as JSON."""
    from infra.recipe import load_recipe
    from infra.running.prefect import local_server

    recipe = load_recipe(sys.argv[1])
    with local_server(Path(recipe.store) / "prefect"):
        from flows.build import build

        built = build(recipe)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    pairs = built["dataset"]["counts"]["pairs"]
    print(json.dumps({"peak_gb": round(peak, 3), "pairs": pairs, "seconds": built["seconds"]}))


if __name__ == "__main__":
    main()
