"""`make gpu-check`: training steps of the size of 1 and 8 billion weights on a CUDA GPU, in ten minutes at most.

`python -m flows.bench.gpu_check` measures Llamas with random weights, made on the GPU: DPO with LoRA on pairs of
prompts of 4k to 64k tokens, trees of 4 and 8 answers, ORPO at 32k with 152k words, and all weights trained, each
with stock TRL and with the prompt read once. The most telling cases come first, each has an end to its time, and what
does not fit, fails or has no time left is a row that says so. After each way it writes `figures.json` and `table.md`.

It needs neither a network nor vLLM, Prefect or an installation of Longmill: this checkout and the packages of
PACKAGES. `--tiny --device cpu` runs the same code on small shapes without a GPU.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import shutil
import sys
import time
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.bench.machine import ROOT, machine
from infra.errors import PrerequisiteError

if TYPE_CHECKING:  # its own imports need packages, and what is missing is told first
    from flows.bench.training_case import TrainingCase

MINUTES = 9.0  # of ten: starting and stopping take some seconds
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "pyarrow", "pydantic", "pyyaml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the figures after each way; the exit status is 0 when all cases have had their turn."""
    options = _options(arguments)
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "0")  # with more than one, a trainer would split its batch
    os.environ["CUDA_VISIBLE_DEVICES"] = gpus.partition(",")[0] if options.device == "cuda" else ""
    try:
        check_packages()
        if options.device == "cuda":
            check_gpu()
    except PrerequisiteError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    options.out.mkdir(parents=True, exist_ok=True)
    cases = tiny_cases() if options.tiny else gpu_cases()
    report = measure_cases(cases, 60 * options.minutes, options.out)
    print(f"{len(report['cases'])} cases in {report['seconds']:.0f} s: {options.out / 'table.md'}")
    return 0


def gpu_cases() -> list["TrainingCase"]:
    """The cases, the most telling first."""
    from flows.bench.training_case import TrainingCase, answer_lengths

    k, pair = 1024, answer_lengths(512)
    trees = {count: answer_lengths(512, count) for count in (4, 8)}
    return [
        TrainingCase("8b", 32 * k, pair),
        TrainingCase("8b", 32 * k, pair, loss="orpo", vocabulary=152_064),
        TrainingCase("8b", 64 * k, pair),
        TrainingCase("8b", 16 * k, pair),
        TrainingCase("1b", 32 * k, pair),
        TrainingCase("1b", 64 * k, pair),
        TrainingCase("8b", 4 * k, pair),
        TrainingCase("1b", 32 * k, trees[4]),
        TrainingCase("1b", 32 * k, trees[8]),
        TrainingCase("1b", 32 * k, pair, loss="orpo", vocabulary=152_064),
        TrainingCase("1b", 16 * k, pair, loss="orpo", method="full"),
        TrainingCase("1b", 16 * k, pair),
        TrainingCase("1b", 4 * k, pair),
        TrainingCase("8b", 4 * k, pair, loss="orpo", method="full"),
        TrainingCase("8b", 32 * k, trees[4]),
        TrainingCase("8b", 32 * k, trees[8]),
    ]


def tiny_cases() -> list["TrainingCase"]:
    """One case of each kind, in shapes for a CPU."""
    from flows.bench.training_case import TrainingCase, answer_lengths

    return [
        TrainingCase("tiny", 128, answer_lengths(16)),
        TrainingCase("tiny", 128, answer_lengths(16, 4)),
        TrainingCase("tiny", 128, answer_lengths(16), loss="orpo", vocabulary=1024),
        TrainingCase("tiny", 128, answer_lengths(16), loss="orpo", method="full"),
    ]


def measure_cases(cases: Sequence["TrainingCase"], seconds: float, folder: Path) -> dict[str, Any]:
    """Both ways of each case in about so many seconds: {date, seconds, device, machine, versions, shapes, cases}.

    `folder` gets figures.json and table.md after each way, and the trainers' own words in worker.log.
    """
    from flows.bench.training_case import WAYS
    from flows.bench.training_figures import case_figures, table
    from flows.bench.training_worker import measure_ways

    started = time.monotonic()
    report: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "seconds": 0.0, **_device(), "versions": versions()}
    report |= {"shapes": {}, "cases": {}}
    by_case: dict[str, dict[str, Any]] = {}
    turns = []
    for case in cases:
        by_case[case.name] = {way: {"problem": "not run"} for way in WAYS}
        report["cases"][case.name] = case_figures(case, by_case[case.name])
        turns += [replace(case, ways=("shared",)), replace(case, ways=("stock",))]  # the quicker one first

    def record(turn: "TrainingCase", figures: dict[str, Any]) -> None:
        report["seconds"] = round(time.monotonic() - started, 1)
        if "shape" in figures:
            report["shapes"][turn.model] = figures["shape"]
        by_case[turn.name][turn.ways[0]] = figures
        report["cases"][turn.name] = case_figures(turn, by_case[turn.name])
        _write(folder / "figures.json", json.dumps(report, indent=1) + "\n")
        _write(folder / "table.md", table(report) + "\n")
        outcome = figures.get("problem") or f"{figures['step_s']:.3g} s a step, {figures['total_gb']:.1f} GB"
        print(f"{report['seconds']:5.0f} s  {turn.name}, {turn.ways[0]}: {outcome}", flush=True)

    measure_ways(turns, seconds, folder / "worker.log", record)
    return report


def check_gpu() -> None:
    """Raises PrerequisiteError without a CUDA GPU for bfloat16, or a compiler for TRL's kernels."""
    import torch

    if not torch.cuda.is_available():
        raise PrerequisiteError(
            f"gpu-check needs a CUDA GPU, and torch {torch.__version__} finds none here; run it on a GPU machine with "
            'a CUDA build of torch, or try it with ARGS="--tiny --device cpu"'
        )
    if torch.cuda.get_device_capability() < (8, 0):
        raise PrerequisiteError(
            f"{torch.cuda.get_device_name()} has no bfloat16 and no flash attention; use a GPU of compute capability "
            "8.0 (A100) or later"
        )
    compilers = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    if not any(map(shutil.which, filter(None, compilers))):
        raise PrerequisiteError("Triton compiles TRL's kernels with a C compiler, and there is none; install gcc")


def check_packages() -> None:
    """Raises PrerequisiteError unless PACKAGES are here in the versions that pyproject.toml names."""
    problems = list(_package_problems())
    if problems:
        raise PrerequisiteError(
            f"gpu-check lacks {'; '.join(problems)}. Run `make setup` where there is a network, or carry wheels: make "
            "gpu-check PYTHON=python3 WHEELS=FOLDER"
        )


def _package_problems() -> Iterable[str]:
    try:
        from packaging.requirements import Requirement
    except ImportError:
        yield f"packaging, and perhaps more of {', '.join(PACKAGES)}"
        return
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in map(Requirement, project["dependencies"]):
        if requirement.name not in PACKAGES:
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield str(requirement)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            yield f"{requirement} ({version} is here)"


def versions() -> dict[str, str]:
    """The version of each package that decides the figures."""
    by_name = {}
    for name in ("torch", "triton", "transformers", "trl", "peft", "accelerate"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # a CPU has no triton
            by_name[name] = importlib.metadata.version(name)
    return by_name


def _device() -> dict[str, Any]:
    """{device, machine}: the GPU's name, and the machine with its GPU's memory; 0 GB without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return {"device": f"CPU, {torch.get_num_threads()} threads", "machine": machine() | {"gpu_memory_gb": 0}}
    gpu_memory_gb = round(torch.cuda.get_device_properties(0).total_memory / 1e9, 1)
    on_gpu = {"gpu_memory_gb": gpu_memory_gb, "cuda": torch.version.cuda}
    return {"device": torch.cuda.get_device_name(), "machine": machine() | on_gpu}


def _write(path: Path, text: str) -> None:
    """Replace a file whole, so that a run which is cut off leaves the last figures."""
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make gpu-check", description="Training steps on this machine's GPU.")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="folder for figures.json and table.md")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all cases together")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu for a trial without a GPU")
    parser.add_argument("--tiny", action="store_true", help="small shapes, a case of each kind")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
