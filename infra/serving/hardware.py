"""What vLLM gets to match this machine: number format and tokens of a step on a CPU.

vLLM ends when one step takes longer than its time-out, so on a CPU the tokens of a step follow the speed. It is
estimated before the server starts: floating-point operations of a token, from the model's files, over the speed of a
matrix product on this machine as busy as it is. Decisions are pure functions of what was read or measured.
"""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # the last is ARM's
STEP_S = 30.0  # a step of as many tokens as are allowed should take so long
MOST_TOKENS = 8192  # of a step on a CPU, where it is fast; a longer context window needs more
FEWEST_TOKENS = 1024
TIMEOUT_S = 300  # vLLM's own default
TIMEOUT_PER_STEP = 10  # the time-out is at least so many times the longest step's estimate
# Part of a matrix product's speed that vLLM reaches when it reads prompts. Measured with 109M parameters on two cores
# with AMX: 0.33 in float32 and 0.93 in bfloat16 (the product is float32 always); less where other work runs.
EFFICIENCY = 0.25
# From so many operations a token on, a second server for the merged model is worth its start on a CPU. Measured with
# 135M parameters on two cores: 25 tokens/s with an adapter, 190 without; a model of 1M loses less than the start takes.
ADAPTER_OPERATIONS = 5e7
_MATRIX = 1024  # rows and columns of the matrices of the product


@dataclass(frozen=True, slots=True)
class StepLimit:
    """The most tokens of a step, and vLLM's time-out for it in seconds."""

    tokens: int
    timeout_s: int


def has_gpu() -> bool:
    """Whether vLLM will run on NVIDIA GPUs here."""
    return Path("/dev/nvidiactl").exists()


def cpu_flags() -> frozenset[str]:
    """The instruction sets of the first processor, as /proc/cpuinfo names them; empty when it cannot be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def training_dtype(dtype: str, gpu: bool, flags: frozenset[str]) -> str:
    """The number format to train in: "auto" is bfloat16 where it is fast, which is everywhere but on older CPUs."""
    if dtype != "auto":
        return dtype
    return "bfloat16" if gpu or flags & BFLOAT16_FLAGS else "float32"


def served_dtype(dtype: str, gpu: bool, flags: frozenset[str]) -> str:
    """The `dtype` for vLLM: on a CPU without instructions for bfloat16 "auto" means float32.

    There bfloat16 is emulated, many times slower than float32.
    """
    if dtype == "auto" and not gpu and not flags & BFLOAT16_FLAGS:
        return "float32"
    return dtype


def token_operations(folder: Path, context: int) -> float | None:
    """Floating-point operations to read one token of a prompt of `context` tokens; None when the files do not say.

    Two for each parameter (Kaplan et al. 2020), and those of causal attention: half of 4 · layers · width · context.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
        layers, width = int(config["num_hidden_layers"]), int(config["hidden_size"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    dtype = config.get("dtype") or config.get("torch_dtype")
    bytes_each = 4 if dtype == "float32" else 2
    parameters = sum(path.stat().st_size for path in folder.glob("*.safetensors")) / bytes_each
    return 2.0 * parameters + 2.0 * layers * width * context if parameters else None


def slow_with_adapters(folder: Path) -> bool:
    """Whether vLLM here writes so slowly with a LoRA adapter of the model that the merged model should be served.

    On a CPU vLLM's kernels for adapters cost several times what the model itself does; on a GPU they cost little.
    """
    if has_gpu():
        return False
    operations = token_operations(folder, 0)
    return operations is not None and operations >= ADAPTER_OPERATIONS


def matrix_speed() -> float:
    """Floating-point operations a second of a float32 matrix product on all cores, as busy as they are now."""
    import numpy as np

    matrix = np.ones((_MATRIX, _MATRIX), np.float32)
    seconds = []
    for _ in range(4):
        clock = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - clock)
    return float(2.0 * _MATRIX**3 / np.median(seconds[1:]))  # the first one starts the threads


def step_limit(context_window: int, tokens_per_s: float | None) -> StepLimit:
    """How many tokens a step may have at a speed of `tokens_per_s`; a whole prompt always fits into one step.

    Without a speed (the model's files are not here) the limit is that of a fast machine, and the time-out long.
    """
    if tokens_per_s is None:
        return StepLimit(max(context_window, MOST_TOKENS), TIMEOUT_PER_STEP * TIMEOUT_S)
    fast_enough = int(min(max(STEP_S * tokens_per_s, FEWEST_TOKENS), MOST_TOKENS))
    tokens = max(context_window, fast_enough)
    return StepLimit(tokens, max(TIMEOUT_S, math.ceil(TIMEOUT_PER_STEP * tokens / tokens_per_s)))


def reading_speed(folder: Path, context: int, servers: int) -> float | None:
    """Prompt tokens a second that a server on this CPU will read, one of `servers`; None when it cannot be told."""
    operations = token_operations(folder, context)
    return None if operations is None else EFFICIENCY * matrix_speed() / operations / servers
