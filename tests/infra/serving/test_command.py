"""vLLM's command line and environment: from recipe keys, on a CPU and on GPUs; and the script that starts it."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.recipe import Model
from infra.serving import hardware, vllm_server
from infra.serving.command import Share, vllm_command
from infra.serving.shares import GpuShare


def words(serving: Mapping[str, Any], share: Share | None = None) -> tuple[str, dict[str, str]]:
    model = Model.model_validate(
        {"name": "m", "tokenizer": "microworld", "context_window": 512, "serve": {"model_path": "microworld"} | serving}
    )
    assert model.serve is not None
    command, environment = vllm_command(model, model.serve, "python", 8000, adapters=True, share=share or Share())
    return " ".join(command), environment


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "has_gpu", lambda: True)


@pytest.mark.usefixtures("gpu")
def test_a_gpu_needs_no_arguments() -> None:
    command, environment = words({})
    assert command.endswith("--max-model-len 512 --enable-lora --max-lora-rank 64")
    assert "CUDA_VISIBLE_DEVICES" not in environment
    assert "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS" not in environment


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("serving", "option"),
    [
        ({"dtype": "bfloat16"}, "--dtype bfloat16"),
        ({"kv_cache_dtype": "fp8"}, "--kv-cache-dtype fp8"),
        ({"prefix_caching": False}, "--no-enable-prefix-caching"),
        ({"tensor_parallel_size": 4}, "--tensor-parallel-size 4"),
        ({"gpus_each": 2}, "--tensor-parallel-size 2"),
        ({"gpus_each": 2, "tensor_parallel_size": 1}, "--max-lora-rank 64"),
        ({"gpu_memory_utilization": 0.5}, "--gpu-memory-utilization 0.5"),
        ({"max_lora_rank": 8}, "--max-lora-rank 8"),
        ({"dtype": "bfloat16", "arguments": ["--dtype", "half"]}, "--dtype bfloat16 --dtype half"),  # the last one wins
    ],
)
def test_a_key_becomes_an_option(serving: dict[str, Any], option: str) -> None:
    assert words(serving)[0].endswith(option)


@pytest.mark.usefixtures("gpu")
def test_servers_on_one_gpu_share_its_memory() -> None:
    command, environment = words({}, Share(2, GpuShare(("3",), 2)))
    assert command.endswith("--gpu-memory-utilization 0.45")
    assert environment["CUDA_VISIBLE_DEVICES"] == "3"


def test_a_cpu_gets_a_limit_and_a_time_out_for_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "reading_speed", lambda folder, context, servers: 100.0 / servers)
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset({"avx2"}))
    command, environment = words({}, Share(servers=2, cores="0"))
    assert command.endswith("--dtype float32 --no-enable-chunked-prefill --max-num-batched-tokens 1500")
    assert environment["VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS"] == "300"
    assert environment["VLLM_CPU_OMP_THREADS_BIND"] == "0"
    assert environment["VLLM_ENGINE_READY_TIMEOUT_S"] == "600"
    monkeypatch.setenv("VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", "77")
    assert words({})[1]["VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS"] == "77"  # who sets it decides


@pytest.mark.parametrize(
    ("installed", "launcher", "argv", "module"),
    [
        (True, True, ["vllm", "serve", "/m", "--port", "1"], "vllm.entrypoints.cli.main"),
        (False, True, ["vllm", "--model", "/m", "--port", "1"], vllm_server.LAUNCHER),
        (False, False, ["vllm", "--model", "/m", "--port", "1"], vllm_server.EARLIER),
    ],
)
def test_vllm_serve_is_run_where_it_can_be(
    installed: bool, launcher: bool, argv: list[str], module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], str]] = []

    def version(package: str) -> str:
        if not installed:
            raise vllm_server.importlib.metadata.PackageNotFoundError(package)
        return "0.32.0"

    def find_spec(name: str) -> object:
        if not launcher:
            raise ModuleNotFoundError(name)
        return object()

    monkeypatch.setattr(vllm_server.importlib.metadata, "version", version)
    monkeypatch.setattr(vllm_server.importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(vllm_server.runpy, "run_module", lambda name, run_name: started.append((list(sys.argv), name)))
    monkeypatch.setattr(sys, "argv", ["vllm_server.py", "/m", "--port", "1"])
    vllm_server.main()
    assert started == [(argv, module)]


def test_the_script_imports_nothing_of_longmill() -> None:
    assert "infra" not in Path(vllm_server.__file__).read_text().replace("Longmill", "")
