"""A fleet: a build whose shards run on process workers that are killed, with PostgreSQL, S3 and a Prefect server that
is restarted; and the scheduler of builds with more workers than a machine takes, simulated (fleet_simulation.py).

    python -m flows.bench.fleet --workers 8 --shards 400 --store s3://BUCKET/PREFIX --requests ACCESS_LOG

Real are the Prefect server, its database (PostgreSQL where `initdb` is installed, else SQLite), the workers, their
runs and the store; the model is the stub. Without `--store` it is moto's S3 server in a process of its own, which
writes a line for each request; of another server the log is `--requests`.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml

from flows.bench.common import stub_recipe, stub_server, stub_stats, write_questions
from flows.bench.fleet_figures import RunFigures, requests_by_kind, run_figures
from flows.bench.fleet_services import PrefectServer, postgres, s3_server
from flows.bench.fleet_workers import Killer, fleet_of_workers
from flows.bench.machine import ROOT

SHARD_SIZE, SAMPLES, LATENCY_S = 8, 4, 1.0
CONCURRENCY = 16  # calls in flight of a worker
_LOOK_S = 2.0


def measure(
    workers: int = 2,
    shards: int = 24,
    kill_every: int = 3,
    store: str = "",
    requests: str = "",
    simulated_workers: int = 64,
    simulated_shards: int = 10_000,
) -> dict[str, Any]:
    """The figures of a real build, in which every `kill_every`th run is killed, and of a simulated one."""
    from flows.bench.fleet_simulation import simulate  # it imports Prefect

    with tempfile.TemporaryDirectory(prefix="longmill-fleet-") as name:
        real = _Fleet(Path(name), workers, shards, kill_every).measured(store, requests)
    return {"real": real, "simulated": simulate(simulated_workers, simulated_shards)}


class _Fleet:
    """A real build, and what is watched meanwhile."""

    def __init__(self, folder: Path, workers: int, shards: int, kill_every: int) -> None:
        self._folder = folder
        self._workers = workers
        self._shards = shards
        self._kill_every = kill_every
        self._coordinator_mb: list[int] = []

    def measured(self, store: str, requests: str) -> dict[str, Any]:
        """The figures of one build."""
        with contextlib.ExitStack() as stack:
            if not store:
                store, requests = stack.enter_context(s3_server(self._folder))
            url = stack.enter_context(stub_server("--latency", str(LATENCY_S)))
            database = stack.enter_context(postgres(self._folder))
            server = stack.enter_context(PrefectServer(self._folder, database.url))
            _deploy(server.environment)
            fleet = stack.enter_context(fleet_of_workers(self._folder, self._workers, server.environment))
            killer = stack.enter_context(Killer(fleet, self._kill_every))
            before = requests_by_kind(requests)
            start = time.monotonic()
            built, restart = self._build(url, store, server)
            seconds = time.monotonic() - start
            stats = stub_stats(url)
            runs: RunFigures = run_figures(_flow_runs(server.url), killer.kills)
            after = requests_by_kind(requests)
            per_shard = {}
            for kind, count in sorted(after.items()):
                per_shard[kind] = round((count - before.get(kind, 0)) / self._shards, 2)
            database_mb = database.megabytes()
        questions = self._shards * SHARD_SIZE
        share = CONCURRENCY  # calls in flight of a killed run
        return {
            "workers": self._workers,
            "shards": self._shards,
            "questions": questions,
            "calls": questions * SAMPLES,
            "calls_paid_twice": stats["requests"] - stats["distinct"],
            "allowed_paid_twice": share * len(killer.kills),
            "calls_missing": questions * SAMPLES - stats["distinct"],
            "questions_published": built["dataset"]["counts"]["questions"],
            "seconds": round(seconds, 1),
            "calls_per_s": round(stats["requests"] / seconds, 1),
            "kills": len(killer.kills),
            **runs.to_json(),
            "server_restart_s": restart,
            "coordinator_mb": [self._coordinator_mb[0], max(self._coordinator_mb), self._coordinator_mb[-1]],
            "database_mb": database_mb,
            "store_requests_per_shard": per_shard,
        }

    def _build(self, url: str, store: str, server: PrefectServer) -> tuple[dict[str, Any], float]:
        """Build on the workers, and restart the server once; the built dataset, and how long the server was away."""
        write_questions(self._folder / "questions.jsonl", self._shards * SHARD_SIZE, 4000)
        execution = {
            "shard_deployment": "shard/longmill-shard",
            "shard_size": SHARD_SIZE,
            "concurrency": CONCURRENCY * self._workers,
            "contexts_in_flight": CONCURRENCY * self._workers,
        }
        recipe = stub_recipe(self._folder, url, sampling={"samples": SAMPLES}, execution=execution)
        path = self._folder / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe.model_dump(mode="json") | {"store": store}), encoding="utf-8")
        command = [sys.executable, "-m", "flows.cli", "build", str(path), "--json"]
        with (self._folder / "build.log").open("ab") as log:
            build = subprocess.Popen(command, cwd=ROOT, env=server.environment, stdout=subprocess.PIPE, stderr=log)
        output: list[bytes] = []
        reader = threading.Thread(target=lambda: output.append(build.communicate()[0]))
        reader.start()
        restart_s = 0.0
        half = self._shards * SHARD_SIZE * SAMPLES // 2
        while reader.is_alive():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                self._coordinator_mb.append(psutil.Process(build.pid).memory_info().rss >> 20)
            if not restart_s and stub_stats(url)["requests"] > half:
                restart_s = server.restart()
            reader.join(_LOOK_S)
        if build.returncode:
            raise SystemExit((self._folder / "build.log").read_text()[-4000:])
        built: dict[str, Any] = json.loads(output[0])
        return built, restart_s


def _deploy(environment: dict[str, str]) -> None:
    """Register the deployments of this checkout for a pool of processes."""
    commands = (["work-pool", "create", "longmill", "--type", "process", "--overwrite"], ["deploy", "--all"])
    for arguments in commands:
        command = [sys.executable, "-m", "prefect", *arguments]
        here = environment | {"PWD": str(ROOT)}
        subprocess.run(command, cwd=ROOT, env=here, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)


def _flow_runs(url: str) -> Iterator[dict[str, Any]]:
    """All runs of shards that the server knows, in pages."""
    offset = 0
    while True:
        content = {"flows": {"name": {"any_": ["shard"]}}, "sort": "START_TIME_ASC", "limit": 200, "offset": offset}
        request = urllib.request.Request(  # noqa: S310
            f"{url}/flow_runs/filter", json.dumps(content).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310
            page = json.load(reply)
        yield from page
        if len(page) < 200:
            return
        offset += len(page)


def main() -> None:
    """Measure with the options of the command line; prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--shards", type=int, default=200)
    parser.add_argument("--kill-every", type=int, default=10)
    parser.add_argument("--store", default="")
    parser.add_argument("--requests", default="")
    parser.add_argument("--simulated-workers", type=int, default=64)
    parser.add_argument("--simulated-shards", type=int, default=10_000)
    options = vars(parser.parse_args())
    os.environ.pop("PREFECT_API_URL", None)  # a server of its own is killed and started again
    print(json.dumps(measure(**options), indent=2))


if __name__ == "__main__":
    main()
