"""A training step that reads a question's prompt once, beside one that reads it once per answer: `training_case`.

On a CPU a small Llama (4 layers, width 512, 8k words, float32), DPO with LoRA and gradient checkpointing, the
reference live; both ways take turns in one process, and each has a process of its own for its peak memory, which is
all that the longest cases run. On a GPU Llamas of the size of 1 and 8 billion in bfloat16 up to 64k tokens, trees of
4 and 8 answers, and ORPO at 32k with 152k words, each way in a process of its own. The rejected answer has 7/8 of the
chosen one's tokens, so the stock batch is padded, as nearly every real one is. Step times are medians; the first step
is not counted where there are more.

Why reading once gains more than 2 x here: a padded batch is masked densely, so the kernel computes all n^2 pairs of
query and key where a causal one computes half; on a CPU TRL's head projects every prompt token besides. At 8k attention
is four fifths of the stock step. One core's time for 8,320 tokens, causal against masked: forward 0.97 and 2.4 s,
backward 2.6 and 5.1 s (8 rows of heads); a step goes forward three times, so masking costs it 2.3 x. The page
faults of the mask's copies (0.28 GB a row of the batch, in each layer) took 0.17 of 2.2 s over two heads. On a
busy machine the clock says more about the other work than about the two ways: at 8k/128 one run gave 4.5 x by the clock
and 3.7 x in processor seconds, because the ways had got 1.2 and 1.5 cores; predicted were 3.6. Processor seconds are
what to compare there.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flows.bench.common import ROOT
from flows.bench.training_case import TrainingCase

WAYS = ("stock", "shared")
_TIMEOUT_S = 3600


def measure(cases: Sequence[TrainingCase] = ()) -> dict[str, Any]:
    """Figures by case: step_s, tokens_per_s and peak_gb both ways, speedup and the predicted one, losses_differ_by."""
    import torch

    gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads"
    figures: dict[str, Any] = {}
    shapes: dict[str, Any] = {}  # of each model, what its predictions are computed from
    for case in cases or tuple(_gpu_cases() if gpu else _cpu_cases()):
        case_figures = _measure_case(case, gpu)
        shapes[case.model] = case_figures.pop("shape")
        figures[case.name] = case_figures | _lengths(case)
    return {"device": device, "shapes": shapes, "cases": figures}


def _cpu_cases() -> Iterable[TrainingCase]:
    for prompt, answer, count, steps in ((1024, 1024, 2, 3), (4096, 512, 2, 2), (8192, 128, 2, 0), (2048, 128, 4, 0)):
        yield TrainingCase("small", prompt, _answers(answer, count), steps=steps)


def _gpu_cases() -> Iterable[TrainingCase]:
    for model in ("1b", "8b"):
        for prompt in (4096, 16384, 32768, 65536):
            yield TrainingCase(model, prompt, _answers(512))
        for count in (4, 8):
            yield TrainingCase(model, 32768, _answers(512, count))
        yield TrainingCase(model, 32768, _answers(512), loss="orpo", vocabulary=152_064)


def _answers(longest: int, count: int = 2) -> tuple[int, ...]:
    """Lengths of answers, every second one of them 7/8 of the longest."""
    lengths = []
    for number in range(count):
        lengths.append(longest - (longest // 8) * (number % 2))
    return tuple(lengths)


def _lengths(case: TrainingCase) -> dict[str, Any]:
    return {"model": case.model, "prompt": case.prompt, "answers": list(case.answers), "loss": case.loss}


def _measure_case(case: TrainingCase, gpu: bool) -> dict[str, Any]:
    """Both ways of a case. On a GPU nothing else runs, so they need not take turns; nor with a single step."""
    by_way: dict[str, dict[str, Any]] = {}
    for way in WAYS:
        child_figures = _run_child(replace(case, ways=(way,), steps=case.steps if gpu else 0))
        by_way[way] = child_figures[way]
    if not gpu and case.steps:
        timed = _run_child(case)
        for way in WAYS:
            by_way[way] = timed[way] | {"peak_gb": by_way[way]["peak_gb"]}
    figures = compare_ways(by_way)
    for name in ("predicted_speedup", "shape"):
        figures[name] = child_figures[name]  # of the last way: the same in both
    return figures


def compare_ways(by_way: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The figures of both ways and their ratios; no ratios where one ran out of memory."""
    stock, shared = dict(by_way["stock"]), dict(by_way["shared"])
    stock_losses, shared_losses = stock.pop("losses", None), shared.pop("losses", None)
    figures: dict[str, Any] = {"stock": stock, "shared": shared}
    if stock_losses is not None and shared_losses is not None:
        figures["speedup"] = round(stock["step_s"] / shared["step_s"], 2)
        if "processor_s" in stock:
            figures["processor_speedup"] = round(stock["processor_s"] / shared["processor_s"], 2)
        figures["memory"] = round(shared["peak_gb"] / stock["peak_gb"], 2)
        differences = []
        for stock_loss, shared_loss in zip(stock_losses, shared_losses, strict=True):
            differences.append(abs(stock_loss - shared_loss))
        figures["losses_differ_by"] = max(differences)
    return figures


def _run_child(case: TrainingCase) -> dict[str, Any]:
    """Run a case in a process of its own."""
    command = [sys.executable, "-m", "flows.bench.training_case", case.dump()]
    environment = {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    output = subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=_TIMEOUT_S, env={**os.environ, **environment}
    ).stdout
    figures: dict[str, Any] = json.loads(output.splitlines()[-1])
    return figures
