"""Starting the training subprocess, and following it until it ends.

Several processes, and a configuration of the user's own, are started by accelerate's launcher; one process is started
as it is, because the launcher imports torch once more, for seconds.

The child ends with its parent (infra/running/processes.py), prints to a log file only, and writes its progress to files
of JSON lines that are read here. Where accelerate has no configuration of the user's, one is written for the run, so
that no file in the user's home directory changes how it runs.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from infra.errors import TrainingError
from infra.running.processes import ChildProcess
from tasks.training.checkpoints import parse_lines
from tasks.training.settings import RunConfig, RunFiles

ROOT = Path(__file__).parents[2]
OnStep = Callable[[dict[str, Any]], None]
OnReference = Callable[[int, int], None]  # rows of the reference computed so far, and all rows
Readers = Mapping[Path, Callable[[Any], None]]  # by file of JSON lines, what is called with each line
POLICY = "tasks.training.run"  # the module that trains a policy
_POLL_S = 0.2
_LOG_LINES = 25


def launch(
    config: RunFiles,
    *,
    log: Path,
    module: str = POLICY,
    on_step: OnStep | None = None,
    on_reference: OnReference | None = None,
    readers: Readers = MappingProxyType({}),
) -> None:
    """Run the subprocess, `module` with the configuration's file, to its end.

    `readers` are called with each line of further files. Raises TrainingError with the subprocess's message, or the
    end of its log.
    """
    folder = Path(config.folder)
    path = folder / "config.json"
    path.write_text(config.dump(), encoding="utf-8")
    config.error.unlink(missing_ok=True)
    command = [sys.executable]
    if not _is_alone(config):
        launcher = config.settings.accelerate_config or str(_launcher_file(config))
        command += ["-m", "accelerate.commands.launch", "--config_file", launcher]
    command += ["-m", module, str(path)]
    with ChildProcess(command, log=log, env=_environment(config)) as child:
        status = _follow(child, {**_progress_readers(config, on_step, on_reference), **readers})
    if status == 0:
        return
    if config.error.exists():
        message = config.error.read_text(encoding="utf-8")
        raise TrainingError(f"{message} (log: {log})")
    tail = child.tail(_LOG_LINES)
    if status == -signal.SIGKILL or "SIGKILL" in tail:  # accelerate's own status is 1
        raise TrainingError(
            "training was killed, most likely because the machine ran out of memory: set a smaller "
            f"{config.settings.section}.device_batch_size (now "
            f"{config.settings.device_batch_size}; the result stays the same), or end what else needs memory, and run "
            f"the same command again. Its log is {log}"
        )
    raise TrainingError(
        f"training ended with status {status}; run the same command again to resume from the last checkpoint. "
        f"The end of {log}:\n{tail}"
    )


def _progress_readers(config: RunFiles, on_step: OnStep | None, on_reference: OnReference | None) -> Readers:
    """The files with the child's progress, and the function that is called with each of their lines."""
    readers: dict[Path, Callable[[Any], None]] = {}
    if on_step is not None:
        readers[config.progress] = on_step
    if isinstance(config, RunConfig) and config.reference is not None and on_reference is not None:
        computed, rows = 0, config.lengths.rows

        def count_rows(rows_of_line: list[Any]) -> None:
            nonlocal computed
            computed += len(rows_of_line)
            on_reference(computed, rows)

        readers[config.reference_rows] = count_rows
    return readers


def _follow(child: ChildProcess, readers: Readers) -> int:
    """Call the readers with each new line of their files, until the child ends; returns its exit status."""
    offsets = dict.fromkeys(readers, 0)
    while True:
        status = child.poll()  # before the files are read, so that no line is missed
        for path, reader in readers.items():
            if not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(offsets[path])
                new_bytes = file.read()
            whole_lines = new_bytes[: new_bytes.rfind(b"\n") + 1]
            offsets[path] += len(whole_lines)
            for line in parse_lines(whole_lines.decode().split("\n")):
                reader(line)
        if status is not None:
            return status
        time.sleep(_POLL_S)


def _environment(config: RunFiles) -> dict[str, str]:
    """The parent's environment, with this checkout first, no telemetry, and no hub when the model is a folder."""
    settings: dict[str, str] = {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
        "PYTHONSAFEPATH": "1",  # a folder called `tasks` where the command was started must not be imported
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_DATASETS_CACHE": str(Path(config.folder) / "cache"),
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    settings |= _threads(config.settings.processes)
    if Path(config.base).exists():
        settings["HF_HUB_OFFLINE"] = "1"
    if _is_alone(config):
        settings["CUDA_VISIBLE_DEVICES"] = _first_gpu(os.environ)  # with more, one process would split its batch
    return {**os.environ, **settings}


def _is_alone(config: RunFiles) -> bool:
    """Whether one process trains, on this machine."""
    return config.settings.processes == 1 and config.settings.accelerate_config is None


def _threads(processes: int) -> dict[str, str]:
    """All processors, where accelerate would take one; threads that wait sleep, so a busy machine costs little."""
    threads = max(1, len(os.sched_getaffinity(0)) // processes)
    defaults = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    return {name: os.environ.get(name, value) for name, value in defaults.items()}


def _first_gpu(environment: Mapping[str, str]) -> str:
    return environment.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]


def _launcher_file(config: RunFiles) -> Path:
    """accelerate's configuration for this run: one machine, one process per GPU."""
    from infra.serving.checks import free_port

    launcher: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU",
        "num_machines": 1,
        "num_processes": config.settings.processes,
        "mixed_precision": "no",  # the trainer's own arguments turn bfloat16 on
        "use_cpu": False,  # the trainer sees by itself whether there is a GPU
        "main_process_port": free_port(),
    }
    path = Path(config.folder) / "accelerate.yaml"
    path.write_text(yaml.safe_dump(launcher), encoding="utf-8")
    return path
