"""What the training subprocess is told about the machine."""

from pathlib import Path

import pytest
import yaml

from infra.errors import TrainingError
from infra.recipe import Training
from tasks.training import launching
from tasks.training.gate import Lengths
from tasks.training.launching import _environment, _launcher_file, launch
from tasks.training.settings import RunConfig


def _config(folder: Path, base: str, **settings: object) -> RunConfig:
    lengths = Lengths(2, 3, 4, 5, 6, 0, ((8, 2),), 2)
    return RunConfig(Training.model_validate(settings), base, "base", False, 0, lengths, str(folder), None)


def test_one_process_uses_all_processors_and_one_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    environment = _environment(_config(tmp_path, "some/model"))
    assert (environment["OMP_NUM_THREADS"], environment["CUDA_VISIBLE_DEVICES"]) == ("8", "0")
    four = _environment(_config(tmp_path, "some/model", processes=4))
    assert four["OMP_NUM_THREADS"] == "2" and "CUDA_VISIBLE_DEVICES" not in four
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    environment = _environment(_config(tmp_path, "some/model"))
    assert (environment["OMP_NUM_THREADS"], environment["CUDA_VISIBLE_DEVICES"]) == ("3", "5")


def test_a_model_folder_needs_no_hub_and_nobody_isstep_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert _environment(_config(tmp_path, str(tmp_path)))["HF_HUB_OFFLINE"] == "1"
    environment = _environment(_config(tmp_path, "some/model"))
    assert "HF_HUB_OFFLINE" not in environment
    assert environment["HF_HUB_DISABLE_TELEMETRY"] == "1"


def test_accelerate_gets_a_configuration_of_the_runs_own(tmp_path: Path) -> None:
    two = yaml.safe_load(_launcher_file(_config(tmp_path, "m", processes=2)).read_text())
    assert (two["distributed_type"], two["num_processes"]) == ("MULTI_GPU", 2)
    assert two["main_process_port"] > 0


class KilledProcess:
    """A training that the system has killed; with several processes accelerate's own status says nothing of it."""

    def __init__(self, command: list[str], **options: object) -> None:
        self.launched = "accelerate.commands.launch" in command

    def __enter__(self) -> "KilledProcess":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def poll(self) -> int:
        return 1 if self.launched else -9

    def tail(self, lines: int) -> str:
        return self.launched * "CalledProcessError: Command '[...]' died with <Signals.SIGKILL: 9>."


@pytest.mark.parametrize("processes", [1, 2])
def test_a_training_that_the_system_killed_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    monkeypatch.setattr(launching, "ChildProcess", KilledProcess)
    config = _config(tmp_path, "some/model", device_batch_size=4, batch_size=8, processes=processes)
    with pytest.raises(TrainingError, match=r"ran out of memory.*device_batch_size \(now 4; the result stays"):
        launch(config, log=tmp_path / "train.log")
