"""The whole job on real vLLM, as a person may treat it: killed, interrupted, resumed, run again.

All tests share one store, in the order of this file; a fixture is one command, so that vLLM starts as rarely as
possible.
"""

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support.command import Command, Ended, needs_vllm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    needs_vllm,
]

QUESTIONS, SAMPLES = 16, 4
SAMPLE_CALLS = QUESTIONS * (SAMPLES + 1)  # with the greedy one
SMALL = [
    f"questions.limit={QUESTIONS}",
    f"sampling.samples={SAMPLES}",
    "evaluation.questions.limit=8",
    "evaluation.samples=0",
    "training.max_steps=2",
    "execution.shard_size=8",
]
ONE_CALL_AT_A_TIME = ["execution.concurrency=1"]  # so that sampling lasts long enough to be stopped within
STEPS, SAVED = 9, 3
LONG_TRAINING = [
    f"training.max_steps={STEPS}",
    "training.epochs=4",
    f"training.save_steps={SAVED}",
    "training.batch_size=2",
    "training.device_batch_size=2",
]


@dataclass(frozen=True)
class CommandRun:
    """A command that has ended, and its traces."""

    ended: Ended
    running: str  # command lines of its processes when it was stopped
    left: list[str]  # command lines of its processes that still ran after its end
    ledger: set[str]  # keys of the replies that were durable then
    report: dict[str, Any]


@dataclass(frozen=True)
class Workplace:
    """An empty folder to run in, and an empty home."""

    folder: Path
    home: Path

    def start(self, *arguments: str, changes: list[str]) -> Command:
        options: list[str] = []
        for change in changes:
            options += ["--set", change]
        return Command(self.folder, self.home, *arguments, *options)

    def finish(self, command: Command) -> CommandRun:
        """Wait for a command's end."""
        ended = command.ended()
        reports = list((self.folder / "mill" / "reports").glob("*/report.json"))
        report = json.loads(reports[0].read_text()) if reports else {}
        return CommandRun(ended, "\n".join(command.running), command.left(), self.ledger(), report)

    def ledger(self) -> set[str]:
        """Keys of the replies that are durable."""
        keys: set[str] = set()
        for path in (self.folder / "mill" / "ledger").glob("*.parquet"):
            keys.update(pq.read_table(path, columns=["key"])["key"].to_pylist())
        return keys

    def sampling(self) -> Callable[[], bool]:
        """True when another reply has reached the ledger."""
        before = len(self.ledger())
        return lambda: len(self.ledger()) > before

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints of training runs that have not ended."""
        return [mark.parent for mark in (self.folder / "mill" / "work").rglob("checkpoint-*/longmill-complete")]

    def manifest(self) -> bytes:
        (path,) = (self.folder / "mill" / "datasets").glob("*/*/manifest.json")
        return path.read_bytes()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("demo"), tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def killed(place: Workplace) -> CommandRun:
    command = place.start("demo", changes=SMALL + ONE_CALL_AT_A_TIME)
    return place.finish(command.when(place.sampling()).signal(signal.SIGKILL))


@pytest.fixture(scope="module")
def whole(place: Workplace, killed: CommandRun) -> CommandRun:
    return place.finish(place.start("demo", changes=SMALL))


@pytest.fixture(scope="module")
def again(place: Workplace, whole: CommandRun) -> tuple[bytes, CommandRun]:
    return place.manifest(), place.finish(place.start("demo", changes=SMALL))


def train(place: Workplace) -> Command:
    (manifest,) = (place.folder / "mill" / "datasets").glob("*/*/manifest.json")
    return place.start("train", str(manifest), "--recipe", "demo-sealong", changes=LONG_TRAINING)


@pytest.fixture(scope="module")
def stopped_training(place: Workplace, whole: CommandRun) -> CommandRun:
    return place.finish(train(place).when(lambda: bool(place.checkpoints())).signal(signal.SIGINT))


def test_kill_9_in_the_middle_of_sampling_leaves_no_process_and_keeps_what_was_paid(killed: CommandRun) -> None:
    assert killed.ended.status == -signal.SIGKILL
    assert "vllm_server.py" in killed.running  # so that there was something to leave
    assert "prefect server" in killed.running
    assert killed.left == []
    assert 0 < len(killed.ledger) < SAMPLE_CALLS


def test_the_run_after_that_pays_for_the_missing_calls_alone(killed: CommandRun, whole: CommandRun) -> None:
    calls = [whole.report["calls"][kind] for kind in ("sample", "greedy")]
    assert sum(counts["reused"] for counts in calls) == len(killed.ledger)
    assert sum(counts["made"] for counts in calls) == SAMPLE_CALLS - len(killed.ledger)
    assert killed.ledger < whole.ledger


def test_the_demo_ends_with_three_paths_that_are_there(place: Workplace, whole: CommandRun) -> None:
    assert whole.ended.status == 0, whole.ended.err
    lines = [line.split(": ", 1) for line in whole.ended.out.splitlines()[-5:]]
    assert [name for name, _ in lines] == ["dataset", "adapter", "report", "next", "next"]
    dataset, adapter, report = (Path(path) for _, path in lines[:3])
    assert (dataset / "README.md").exists()
    assert (adapter / "adapter_model.safetensors").stat().st_size > 0
    assert {"report.json", "report.html"} <= {path.name for path in report.iterdir()}
    assert all(path.is_relative_to(place.folder / "mill") for path in (dataset, adapter, report))


def test_the_report_accounts_for_every_question(whole: CommandRun) -> None:
    report = whole.report
    keys = {"questions", "pairs", "drops", "calls", "tokens", "cost", "subem", "model", "seconds"}
    assert keys <= set(report)
    assert report["questions"] == QUESTIONS == report["pairs"] + sum(report["drops"].values())
    assert report["pairs"] > 0
    assert {"greedy", "random", "mbr", "oracle", "chosen", "rejected"} <= set(report["subem"])
    for when in ("before", "after"):
        figure = report["model"][when]["sub_em"]
        assert figure["low"] <= figure["value"] <= figure["high"]
    for calls in report["calls"].values():
        assert {"made", "reused", "retried", "failed"} <= set(calls)


def test_datasets_reads_what_was_published(place: Workplace, whole: CommandRun) -> None:
    from datasets import load_dataset

    rows = load_dataset(
        "parquet",
        data_files=str(place.folder / "mill" / "datasets" / "*" / "*" / "data" / "*" / "*.parquet"),
        split="train",
        cache_dir=str(place.home / "datasets"),
    )
    assert len(rows) == whole.report["pairs"]
    assert [rows[0][part][-1]["role"] for part in ("prompt", "chosen", "rejected")] == [
        "user",
        "assistant",
        "assistant",
    ]


def test_everything_lies_in_the_store_and_nothing_keeps_running(place: Workplace, whole: CommandRun) -> None:
    assert [path.name for path in place.folder.iterdir()] == ["mill"]
    made = {path.name for path in place.home.iterdir() if path.suffix not in (".out", ".err")}
    assert made <= {".cache", ".config", "datasets"}  # caches of libraries alone
    assert whole.left == []


def test_the_output_is_calm(whole: CommandRun) -> None:
    printed = whole.ended.out + whole.ended.err
    for noise in ("Warning", "WARNING", "Traceback", "| INFO", "\x1b["):
        assert noise not in printed


def test_the_same_command_again_calls_nothing_and_changes_no_byte(
    place: Workplace, whole: CommandRun, again: tuple[bytes, CommandRun]
) -> None:
    before, run = again
    assert run.ended.status == 0, run.ended.err
    assert "nothing to do: this run ended at " in run.ended.err
    assert run.ledger == whole.ledger
    assert run.report == whole.report
    assert place.manifest() == before
    assert run.ended.out.splitlines()[-5:] == whole.ended.out.splitlines()[-5:]
    assert run.left == []


def test_ctrl_c_in_the_middle_of_training_leaves_no_process(stopped_training: CommandRun) -> None:
    assert stopped_training.ended.status == 130
    assert "tasks.training.run" in stopped_training.running
    assert stopped_training.ended.err.splitlines()[-1].startswith("interrupted: ")
    assert "Traceback" not in stopped_training.ended.err + stopped_training.ended.out
    assert stopped_training.left == []


def test_training_goes_on_from_its_checkpoint(place: Workplace, stopped_training: CommandRun) -> None:
    (checkpoint, *_) = place.checkpoints()
    working_folder = checkpoint.parents[1]
    run = place.finish(train(place))
    assert run.ended.status == 0, run.ended.err
    name, path = run.ended.out.splitlines()[-1].split(": ", 1)
    assert (name, Path(path).name) == ("adapter", working_folder.name)
    assert json.loads((Path(path) / "result.json").read_text())["steps"] == STEPS
    resumed_from = json.loads((working_folder / "config.json").read_text())["checkpoint"]
    assert int(resumed_from.rpartition("-")[2]) >= SAVED
