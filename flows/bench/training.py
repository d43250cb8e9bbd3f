"""A training step that reads a question's prompt once, beside one that reads it once per answer: `training_case`.

On a CPU a small Llama (4 layers, width 512, 8k words, float32), DPO with LoRA and gradient checkpointing, the
reference live; both ways take turns in one process, and each has a process of its own for its peak memory, which is
all that the longest cases run. On a GPU the cases of `gpu_check`, each way by itself. The rejected answer has 7/8 of
the chosen one's tokens, so the stock batch is padded, as nearly every real one is. Step times are medians; the first
step is not counted where there are more.

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
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.bench.machine import ROOT
from flows.bench.training_case import ENVIRONMENT, WAYS, TrainingCase, answer_lengths
from flows.bench.training_figures import case_figures

_TIMEOUT_S = 3600


def measure(cases: Sequence[TrainingCase] = ()) -> dict[str, Any]:
    """Figures by case: step_s, tokens_per_s and peak_gb both ways, speedup and the predicted one, losses_differ_by."""
    import torch

    if torch.cuda.is_available() and not cases:
        return _measure_gpu()
    figures: dict[str, Any] = {}
    shapes: dict[str, Any] = {}  # of each model, what its predictions are computed from
    for case in cases or tuple(_cpu_cases()):
        by_way = _measure_case(case)
        shapes[case.model] = by_way["shared"]["shape"]
        figures[case.name] = case_figures(case, by_way)
    return {"device": f"CPU, {torch.get_num_threads()} threads", "shapes": shapes, "cases": figures}


def _measure_gpu() -> dict[str, Any]:
    from flows.bench.gpu_check import MINUTES, gpu_cases, measure_cases

    with tempfile.TemporaryDirectory() as folder:
        return measure_cases(gpu_cases(), 60 * MINUTES, Path(folder))


def _cpu_cases() -> Iterable[TrainingCase]:
    for prompt, answer, count, steps in ((1024, 1024, 2, 3), (4096, 512, 2, 2), (8192, 128, 2, 0), (2048, 128, 4, 0)):
        yield TrainingCase("small", prompt, answer_lengths(answer, count), steps=steps)


def _measure_case(case: TrainingCase) -> dict[str, dict[str, Any]]:
    """Figures of both ways, each with the predicted speed-up and the model's shape."""
    by_way: dict[str, dict[str, Any]] = {}
    for way in WAYS:
        figures = _run_child(replace(case, ways=(way,), steps=0))
        by_way[way] = figures.pop(way) | figures
    if case.steps:
        timed = _run_child(case)
        for way in WAYS:
            memory = {name: by_way[way][name] for name in ("peak_gb", "total_gb")}
            by_way[way] |= timed[way] | memory
    return by_way


def _run_child(case: TrainingCase) -> dict[str, Any]:
    """Run a case in a process of its own."""
    command = [sys.executable, "-m", "flows.bench.training_case", case.dump()]
    output = subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=_TIMEOUT_S, env={**os.environ, **ENVIRONMENT}
    ).stdout
    figures: dict[str, Any] = json.loads(output.splitlines()[-1])
    return figures
