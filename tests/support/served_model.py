"""Models that are served by the stub of served_stub.py, and what its processes have left in their folder."""

import sys
from pathlib import Path
from typing import Any

from infra.recipe import Model
from tests.support.command import ROOT


def stub_model(folder: Path, latency_s: float = 0.0, **serving: Any) -> Model:
    """A model whose "Python with vLLM" is a script that starts this stub, with `folder` as its folder."""
    folder.mkdir(exist_ok=True)
    python = folder / "python"
    python.write_text(
        f"#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m tests.support.served_stub "
        f'--folder {folder} --latency {latency_s} "$@"\n'
    )
    python.chmod(0o755)
    settings = {"model_path": "microworld", "python": str(python), "start_timeout_s": 60} | serving
    return Model.model_validate({"name": "stub", "tokenizer": "microworld", "context_window": 4096, "serve": settings})


def pids(folder: Path) -> list[int]:
    """The process of each start of the stubs of a folder, in their order."""
    return list(map(int, (folder / "pids").read_text().split()))


def answered(folder: Path) -> list[tuple[str, int]]:
    """The sha256 of the request and the port, of each chat reply."""
    path = folder / "answered"
    replies = []
    for line in path.read_text().splitlines() if path.exists() else []:
        sha256, port = line.split()
        replies.append((sha256, int(port)))
    return replies
