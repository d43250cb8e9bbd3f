"""The command and the environment that start a server: vLLM for a model, or the rule-based judge in the box."""

import json
import os
import sys
from pathlib import Path

from infra.models.packaged.models import BOX
from infra.models.tokens import resolve_model
from infra.recipe import RULE_BASED, Model, Serving
from infra.serving import hardware
from infra.serving.shares import GpuShare, Share

VLLM_SERVER = Path(__file__).with_name("vllm_server.py")


def rule_based_command(port: int) -> list[str]:
    """The command that starts the rule-based judge in the box."""
    server = json.loads((BOX / RULE_BASED / "server.json").read_text())
    return [sys.executable, "-m", server["module"], "--port", str(port)]


def vllm_command(
    model: Model, settings: Serving, python: str, port: int, *, adapters: bool, share: Share
) -> tuple[list[str], dict[str, str]]:
    """The command that starts vLLM for a model, and its environment. `adapters`: LoRA adapters may be loaded."""
    gpu = hardware.has_gpu()
    command = [python, str(VLLM_SERVER), resolve_model(settings.model_path)]
    command += ["--enable-prompt-tokens-details"]  # replies then say how much of the prompt was in the cache
    command += ["--served-model-name", model.name]
    command += ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", str(model.context_window)]
    if adapters:
        command += ["--enable-lora", "--max-lora-rank", str(settings.max_lora_rank)]
    if model.trust_remote_code:
        command += ["--trust-remote-code"]
    command += _format_options(settings, gpu)
    environment = _environment(settings)
    if gpu:
        command += _gpu_options(settings, share.gpu, environment)
    else:
        command += _cpu_options(model, settings, share, environment)
    return [*command, *settings.arguments], environment


def _format_options(settings: Serving, gpu: bool) -> list[str]:
    """Options where they differ from vLLM's own defaults."""
    options = []
    dtype = hardware.served_dtype(settings.dtype, gpu, hardware.cpu_flags())
    if dtype != "auto":
        options += ["--dtype", dtype]
    if settings.kv_cache_dtype != "auto":
        options += ["--kv-cache-dtype", settings.kv_cache_dtype]
    if not settings.prefix_caching:
        options += ["--no-enable-prefix-caching"]
    size = settings.tensor_parallel_size or settings.gpus_each or 1
    if size > 1:
        options += ["--tensor-parallel-size", str(size)]
    return options


def _gpu_options(settings: Serving, share: GpuShare | None, environment: dict[str, str]) -> list[str]:
    """Options of a server on GPUs; `environment` gets the GPUs of its own."""
    utilization = settings.gpu_memory_utilization
    if share is not None:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(share.gpus)
        if utilization is None and share.servers > 1:
            utilization = round(0.9 / share.servers, 2)
    return ["--gpu-memory-utilization", str(utilization)] if utilization is not None else []


def _cpu_options(model: Model, settings: Serving, share: Share, environment: dict[str, str]) -> list[str]:
    """Options of a server on a CPU; `environment` gets the time-out of a step.

    vLLM 0.32 on a CPU ends when the prompt of a seeded request is read in chunks ("CPU Generator does not use
    offset"), so every prompt must fit one step.
    """
    folder = Path(resolve_model(settings.model_path))
    limit = hardware.step_limit(
        model.context_window, hardware.reading_speed(folder, model.context_window, share.servers)
    )
    environment.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GiB
    environment.setdefault("VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", str(limit.timeout_s))
    if share.cores is not None:
        environment.setdefault("VLLM_CPU_OMP_THREADS_BIND", share.cores)
    return ["--no-enable-chunked-prefill", "--max-num-batched-tokens", str(limit.tokens)]


def _environment(settings: Serving) -> dict[str, str]:
    """The parent's environment without this virtual environment's variables, and vLLM's settings."""
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)
    environment.pop("VIRTUAL_ENV", None)
    environment |= {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    environment.setdefault("VLLM_ENGINE_READY_TIMEOUT_S", str(settings.start_timeout_s))
    if Path(resolve_model(settings.model_path)).exists():
        environment["HF_HUB_OFFLINE"] = "1"
    return environment
