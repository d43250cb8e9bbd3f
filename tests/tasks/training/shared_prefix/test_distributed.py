"""Two processes train as one, reference and shared prompts included; a model cut over processes reads as a whole one.

FSDP under accelerate needs GPUs, so it is PyTorch's own that is tested here.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from infra.recipe import Training
from infra.serving.checks import free_port
from infra.store import open_store
from tasks.training.job import TrainingJob, train
from tests.support.tiny_model import publish_rows, question_rows, save_tiny

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[4]

SETTINGS: dict[str, Any] = {
    "loss": "dpo",
    "sft_weight": 0.1,
    "dtype": "float32",
    "lora_rank": 4,
    "lora_dropout": 0.0,  # its draws would differ
    "learning_rate": 1e-3,
    "batch_size": 4,
    "max_steps": 2,  # full ones: an epoch's last step repeats a question where processes share it unevenly
    "reference": "kept",
}


def test_two_processes_make_the_steps_of_one(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base", width=64, layers=2)
    launcher = tmp_path / "accelerate.yaml"
    launcher.write_text(
        yaml.safe_dump(
            {
                "compute_environment": "LOCAL_MACHINE",
                "distributed_type": "MULTI_GPU",  # the trainer turns it into gloo where there is no GPU
                "num_machines": 1,
                "num_processes": 2,
                "mixed_precision": "no",
                "use_cpu": False,
                "main_process_port": free_port(),
            }
        )
    )
    curves, references = [], []
    for name, changes in (("one", {}), ("two", {"processes": 2, "accelerate_config": str(launcher)})):
        store = open_store(str(tmp_path / name))
        manifest = publish_rows(tmp_path / name, question_rows())
        settings = Training.model_validate({**SETTINGS, **changes})
        job = TrainingJob(store, manifest, settings, base, "main", tmp_path / f"work-{name}", seed=1)
        result = train(job)
        folder = store.local_path(result.model)
        assert folder is not None
        curves.append(pq.read_table(folder / "metrics.parquet"))
        assert min(curves[-1].column("shared_prompt").to_pylist()) == pytest.approx(1.0)
        references.append(store.read_table(json.loads((folder / "job.json").read_text())["reference"]))
    one, two = curves
    for column in ("loss", "grad_norm", "margin", "pairs", "logps/chosen"):
        assert two.column(column).to_pylist() == pytest.approx(one.column(column).to_pylist(), rel=1e-4)
    assert two.column("questions").to_pylist() == [4, 4]
    assert references[0].num_rows == 10 and references[0].equals(references[1])


def test_a_model_cut_over_two_processes_reads_the_shared_prompt_as_a_whole_one() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", str(free_port()), "-m", "tests.support.sharded_pass"]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=120).stdout
    log_p, gradient, size = json.loads(output.splitlines()[-1])
    assert log_p < 1e-6 and gradient < 1e-9 * size and size > 1
