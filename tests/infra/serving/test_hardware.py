"""What vLLM gets on a CPU: number format by the instructions, tokens of a step and its time-out by the speed."""

import json
from pathlib import Path

import pytest

from infra.models.tokens import resolve_model
from infra.serving import hardware
from infra.serving.hardware import served_dtype, step_limit, training_dtype

AVX2 = frozenset({"sse4_2", "avx", "avx2", "fma"})
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512vl"}


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        (AVX2, "float32"),
        (AVX512, "float32"),
        (AVX512 | {"avx512_bf16"}, "auto"),
        (AVX512 | {"amx_bf16", "amx_tile"}, "auto"),
        (frozenset({"asimd", "bf16"}), "auto"),
        (frozenset({"asimd"}), "float32"),
        (frozenset(), "float32"),
    ],
)
def test_a_cpu_without_instructions_for_bfloat16_serves_float32(flags: frozenset[str], dtype: str) -> None:
    assert served_dtype("auto", False, flags) == dtype


def test_a_gpu_and_a_recipe_decide_for_themselves() -> None:
    assert served_dtype("auto", True, AVX2) == "auto"
    assert served_dtype("bfloat16", False, AVX2) == "bfloat16"
    assert served_dtype("float32", False, AVX512 | {"amx_bf16"}) == "float32"


def test_training_takes_bfloat16_where_it_is_fast() -> None:
    assert training_dtype("auto", False, AVX512) == "float32"
    assert training_dtype("auto", False, AVX512 | {"amx_bf16"}) == "bfloat16"
    assert training_dtype("auto", True, AVX2) == "bfloat16"
    assert training_dtype("bfloat16", False, AVX2) == "bfloat16"
    assert training_dtype("float32", True, AVX2) == "float32"


def test_the_flags_of_this_machine_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_text
    text = "processor\t: 0\nflags\t\t: fpu avx2 amx_bf16\n\nprocessor\t: 1\nflags\t\t: fpu\n"
    monkeypatch.setattr(Path, "read_text", lambda path: text if str(path) == "/proc/cpuinfo" else read(path))
    assert hardware.cpu_flags() == {"fpu", "avx2", "amx_bf16"}


@pytest.mark.parametrize(
    ("context_window", "tokens_per_s", "tokens", "timeout_s"),
    [
        (1024, 100_000.0, 8192, 300),  # a small model: the most tokens, vLLM's own time-out
        (1024, 150.0, 4500, 300),  # SmolLM2 on two busy AVX2 cores: a step of 30 s
        (8192, 150.0, 8192, 547),  # a whole prompt must fit, so the time-out gives way: ten times 54.6 s
        (512, 10.0, 1024, 1024),
        (65536, 20_000.0, 65536, 300),
    ],
)
def test_a_step_stays_far_from_the_time_out(
    context_window: int, tokens_per_s: float, tokens: int, timeout_s: int
) -> None:
    limit = step_limit(context_window, tokens_per_s)
    assert (limit.tokens, limit.timeout_s) == (tokens, timeout_s)
    assert limit.timeout_s >= 10 * limit.tokens / tokens_per_s - 1 or limit.tokens / tokens_per_s <= 30


def test_a_model_that_is_not_here_gets_a_long_time_out() -> None:
    assert (step_limit(4096, None).tokens, step_limit(4096, None).timeout_s) == (8192, 3000)


def test_operations_of_a_token_are_counted_from_the_files(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"num_hidden_layers": 2, "hidden_size": 8, "dtype": "float32"}))
    (tmp_path / "model.safetensors").write_bytes(b"0" * 4000)  # 1,000 numbers
    assert hardware.token_operations(tmp_path, 100) == 2 * 1000 + 2 * 2 * 8 * 100
    (tmp_path / "config.json").write_text(json.dumps({"num_hidden_layers": 2, "hidden_size": 8, "dtype": "bfloat16"}))
    assert hardware.token_operations(tmp_path, 0) == 2 * 2000
    assert hardware.token_operations(tmp_path / "nowhere", 100) is None


def test_a_small_model_keeps_its_adapter_and_so_does_any_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "has_gpu", lambda: False)
    assert not hardware.slow_with_adapters(Path(resolve_model("microworld")))
    monkeypatch.setattr(hardware, "token_operations", lambda folder, context: 2 * 135e6)
    assert hardware.slow_with_adapters(Path("smollm2"))
    monkeypatch.setattr(hardware, "has_gpu", lambda: True)
    assert not hardware.slow_with_adapters(Path("smollm2"))


def test_servers_that_share_a_cpu_read_more_slowly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "matrix_speed", lambda: 1e9)
    monkeypatch.setattr(hardware, "token_operations", lambda folder, context: 1e6)
    assert hardware.reading_speed(tmp_path, 512, 1) == 1e9 * hardware.EFFICIENCY / 1e6
    assert hardware.reading_speed(tmp_path, 512, 2) == 1e9 * hardware.EFFICIENCY / 2e6


def test_the_speed_of_a_matrix_product_is_measured() -> None:
    assert 1e8 < hardware.matrix_speed() < 1e14
