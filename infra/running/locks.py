"""Renews the lock files: `make lock`. Versions that still fit stay; `make lock ARGS=--upgrade` takes the newest.

The locks hold every package that an environment gets, with the hashes of its files. torch has two builds, so it and
what only the CUDA build needs are locked apart.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from infra.errors import PrerequisiteError
from infra.running.environments import LOCKS, ROOT, find_uv, pip_settings, uv_settings

HEADER = "# Written by `make lock`.\n"
# vLLM asks for these; their builds on the index are for CUDA and break transformers beside a CPU torch. Unused here.
LEFT_OUT = ("torchvision", "torchaudio", "torchcodec")
Pins = dict[str, str]  # a package's name, and its lines in a lock


def read_lock(text: str) -> Pins:
    """The pins of a lock's text, by name."""
    pins: Pins = {}
    name = ""
    for line in text.splitlines(keepends=True):
        if line.startswith("#"):
            continue
        if not line.startswith(" "):
            name = re.split(r"[=\[; ]", line)[0]
            pins[name] = ""
        pins[name] += line
    return pins


def renew_locks(arguments: list[str]) -> None:
    """Write all lock files. `arguments` go to `uv pip compile`. PrerequisiteError: nothing fits pyproject.toml."""
    python = Path(sys.executable)
    uv = find_uv(python)
    if uv is None:
        raise PrerequisiteError("locks need uv, which pip could not install: install uv, then `make lock` again")
    of_pip = pip_settings(python)
    of_pip.pop("extra-index-url", None)  # a folder of some files, whose hashes would be all that a lock has
    settings = uv_settings(of_pip, os.environ)
    project = ["pyproject.toml"]
    tested = [*project, "--extra", "dev", "--extra", "documents"]

    earlier = _earlier("factory.txt", "development.txt")
    without_cpu_files = {name: value for name, value in settings.items() if name != "UV_FIND_LINKS"}
    cuda = _compile(uv, [*tested, *arguments], earlier + _earlier("torch-cuda.txt"), without_cpu_files)

    torch = re.split(r"[ +]", cuda["torch"])[0]  # torch==X.Y.Z
    versions = [f"{torch}+cpu"]
    versions += [re.split(r"[ ;]", lines)[0] for name, lines in cuda.items() if name != "torch"]
    earlier = "".join(cuda[name] for name in sorted(cuda) if name != "torch") + _earlier("torch-cpu.txt")
    every = _compile_for_cpu(uv, tested, earlier, settings, versions)
    runtime = _compile_for_cpu(uv, project, earlier, settings, versions)
    serving = _compile_for_cpu(
        uv,
        ["--group", "serving", *arguments],
        _earlier("serving.txt", "torch-cpu.txt"),
        settings,
        versions[:1],
    )
    bootstrap = _compile(uv, ["--group", "bootstrap", *arguments], _earlier("uv.txt"), settings)
    docs = _compile(uv, ["--group", "docs", *arguments], _earlier("docs.txt"), settings)

    for name, pins in {
        "factory.txt": {name: lines for name, lines in runtime.items() if name != "torch"},
        "development.txt": {name: lines for name, lines in every.items() if name not in runtime},
        "serving.txt": {name: lines for name, lines in serving.items() if name not in (*LEFT_OUT, "torch")},
        "torch-cpu.txt": {"torch": every["torch"]},
        "torch-cuda.txt": {name: lines for name, lines in cuda.items() if name not in every or name == "torch"},
        "uv.txt": bootstrap,
        "docs.txt": docs,
    }.items():
        (LOCKS / name).write_text(HEADER + "".join(pins.values()), encoding="utf-8")


def _earlier(*names: str) -> str:
    return "".join((LOCKS / name).read_text(encoding="utf-8") for name in names if (LOCKS / name).exists())


def _compile_for_cpu(uv: str, sources: list[str], earlier: str, settings: dict[str, str], versions: list[str]) -> Pins:
    try:
        return _compile(uv, sources, earlier, settings, versions)
    except PrerequisiteError:
        return _compile(uv, sources, earlier, {**settings, "UV_TORCH_BACKEND": "cpu"}, versions)


def _compile(
    uv: str, sources: list[str], earlier: str, settings: dict[str, str], versions: list[str] | None = None
) -> Pins:
    """The pins that `sources` need. Versions and hashes of `earlier`, a lock's text, stay where they fit."""
    with tempfile.TemporaryDirectory() as folder:
        output, constraints = Path(folder) / "lock.txt", Path(folder) / "constraints.txt"
        output.write_text(earlier, encoding="utf-8")
        constraints.write_text("\n".join(versions or []), encoding="utf-8")
        options = ["--quiet", "--generate-hashes", "--no-header", "--no-annotate", "--python-version", "3.11"]
        options += ["--constraint", str(constraints), "--output-file", str(output)]
        done = subprocess.run(
            [uv, "pip", "compile", *options, *sources],
            cwd=ROOT,
            env=settings,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise PrerequisiteError(f"pyproject.toml ({' '.join(sources)}) cannot be locked: {done.stderr.strip()}")
        return read_lock(output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    renew_locks(sys.argv[1:])
