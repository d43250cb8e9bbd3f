"""The whole job on real vLLM, as a person lives with it: killed, interrupted, resumed, run again.

One store goes through it all, in the order of this file; each fixture is one command, so that vLLM starts as few
times as can be.
"""

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support.command import ROOT, Command, Ended

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not (ROOT / ".venv-serving" / "bin" / "python").exists(),
        reason="there is no .venv-serving, the environment for vLLM; `make setup` makes it",
    ),
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
    f"training.save_steps={SAVED}",
    "training.batch_size=2",
    "training.device_batch_size=2",
]


@dataclass(frozen=True)
class Life:
    """One command's end, what ran when it was stopped, what it left running, and what the ledger held then."""

    ended: Ended
    running: str
    left: list[str]
    held: set[str]
    report: dict[str, Any]


@dataclass(frozen=True)
class Place:
    """An empty folder to run in, and an empty home."""

    folder: Path
    home: Path

    def start(self, *arguments: str, changes: list[str]) -> Command:
        return Command(self.folder, self.home, *arguments, *[word for each in changes for word in ("--set", each)])

    def life(self, command: Command) -> Life:
        ended = command.ended()
        reports = list((self.folder / "mill" / "reports").glob("*/report.json"))
        report = json.loads(reports[0].read_text()) if reports else {}
        return Life(ended, "\n".join(command.running), command.left(), self.ledger(), report)

    def ledger(self) -> set[str]:
        """Keys of the replies that are durable."""
        segments = (self.folder / "mill" / "ledger").glob("*.parquet")
        return {key for path in segments for key in pq.read_table(path, columns=["key"])["key"].to_pylist()}

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
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("demo"), tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def killed(place: Place) -> Life:
    command = place.start("demo", changes=SMALL + ONE_CALL_AT_A_TIME)
    return place.life(command.when(place.sampling()).signal(signal.SIGKILL))


@pytest.fixture(scope="module")
def interrupted(place: Place, killed: Life) -> Life:
    command = place.start("demo", changes=SMALL + ONE_CALL_AT_A_TIME)
    return place.life(command.when(place.sampling()).signal(signal.SIGINT))


@pytest.fixture(scope="module")
def whole(place: Place, interrupted: Life) -> Life:
    return place.life(place.start("demo", changes=SMALL))


@pytest.fixture(scope="module")
def again(place: Place, whole: Life) -> tuple[bytes, Life]:
    return place.manifest(), place.life(place.start("demo", changes=SMALL))


def train(place: Place) -> Command:
    (manifest,) = (place.folder / "mill" / "datasets").glob("*/*/manifest.json")
    return place.start("train", str(manifest), "--recipe", "demo-sealong", changes=LONG_TRAINING)


@pytest.fixture(scope="module")
def stopped_training(place: Place, whole: Life) -> Life:
    return place.life(train(place).when(lambda: bool(place.checkpoints())).signal(signal.SIGINT))


def test_kill_9_in_the_middle_of_sampling_leaves_no_process_and_keeps_what_was_paid(killed: Life) -> None:
    assert killed.ended.status == -signal.SIGKILL
    assert "vllm.entrypoints" in killed.running  # so that there was something to leave
    assert "prefect server" in killed.running
    assert killed.left == []
    assert 0 < len(killed.held) < SAMPLE_CALLS


def test_ctrl_c_in_the_middle_of_sampling_says_so_and_leaves_no_process(killed: Life, interrupted: Life) -> None:
    assert interrupted.ended.status == 130
    last = interrupted.ended.err.splitlines()[-1]
    assert last == "interrupted: what was paid for is kept, and the same command goes on from there"
    assert "Traceback" not in interrupted.ended.err + interrupted.ended.out
    assert interrupted.left == []
    assert killed.held < interrupted.held
    assert len(interrupted.held) < SAMPLE_CALLS


def test_the_run_after_that_pays_for_the_missing_calls_alone(interrupted: Life, whole: Life) -> None:
    calls = [whole.report["calls"][kind] for kind in ("sample", "greedy")]
    assert sum(each["reused"] for each in calls) == len(interrupted.held)
    assert sum(each["made"] for each in calls) == SAMPLE_CALLS - len(interrupted.held)
    assert interrupted.held < whole.held


def test_the_demo_ends_with_three_paths_that_are_there(place: Place, whole: Life) -> None:
    assert whole.ended.status == 0, whole.ended.err
    lines = [line.split(": ", 1) for line in whole.ended.out.splitlines()[-3:]]
    assert [name for name, _ in lines] == ["dataset", "adapter", "report"]
    dataset, adapter, report = (Path(path) for _, path in lines)
    assert (dataset / "README.md").exists()
    assert (adapter / "adapter_model.safetensors").stat().st_size > 0
    assert {"report.json", "report.html"} <= {path.name for path in report.iterdir()}
    assert all(path.is_relative_to(place.folder / "mill") for path in (dataset, adapter, report))


def test_the_report_accounts_for_every_question(whole: Life) -> None:
    report = whole.report
    wanted = {"questions", "pairs", "drops", "calls", "tokens", "cost", "subem", "model", "seconds"}
    assert wanted <= set(report)
    assert report["questions"] == QUESTIONS == report["pairs"] + sum(report["drops"].values())
    assert report["pairs"] > 0
    assert {"greedy", "random", "mbr", "oracle", "chosen", "rejected"} <= set(report["subem"])
    for when in ("before", "after"):
        figure = report["model"][when]["sub_em"]
        assert figure["low"] <= figure["value"] <= figure["high"]
    for calls in report["calls"].values():
        assert {"made", "reused", "retried", "failed"} <= set(calls)


def test_datasets_reads_what_was_published(place: Place, whole: Life) -> None:
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


def test_everything_lies_in_the_store_and_nothing_keeps_running(place: Place, whole: Life) -> None:
    assert [path.name for path in place.folder.iterdir()] == ["mill"]
    made = {path.name for path in place.home.iterdir() if path.suffix not in (".out", ".err")}
    assert made <= {".cache", ".config", "datasets"}  # caches of libraries alone
    assert whole.left == []


def test_the_output_is_calm(whole: Life) -> None:
    printed = whole.ended.out + whole.ended.err
    for noise in ("Warning", "WARNING", "Traceback", "| INFO", "\x1b["):
        assert noise not in printed


def test_the_same_command_again_calls_nothing_and_changes_no_byte(
    place: Place, whole: Life, again: tuple[bytes, Life]
) -> None:
    before, life = again
    assert life.ended.status == 0, life.ended.err
    assert {kind: calls["made"] for kind, calls in life.report["calls"].items()} == dict.fromkeys(
        whole.report["calls"], 0
    )
    assert sum(calls["reused"] for calls in life.report["calls"].values()) == len(whole.held) == len(life.held)
    assert place.manifest() == before
    assert life.ended.out.splitlines()[-3:] == whole.ended.out.splitlines()[-3:]
    assert life.left == []


def test_ctrl_c_in_the_middle_of_training_leaves_no_process(stopped_training: Life) -> None:
    assert stopped_training.ended.status == 130
    assert "tasks.training.run" in stopped_training.running
    assert stopped_training.ended.err.splitlines()[-1].startswith("interrupted: ")
    assert "Traceback" not in stopped_training.ended.err + stopped_training.ended.out
    assert stopped_training.left == []


def test_training_goes_on_from_its_checkpoint(place: Place, stopped_training: Life) -> None:
    (kept, *_) = place.checkpoints()
    working_folder = kept.parents[1]
    life = place.life(train(place))
    assert life.ended.status == 0, life.ended.err
    name, path = life.ended.out.splitlines()[-1].split(": ", 1)
    assert (name, Path(path).name) == ("adapter", working_folder.name)
    assert json.loads((Path(path) / "result.json").read_text())["steps"] == STEPS
    resumed_from = json.loads((working_folder / "config.json").read_text())["checkpoint"]
    assert int(resumed_from.rpartition("-")[2]) >= SAVED
