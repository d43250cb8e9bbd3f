"""Measuring: a stored result is not measured again unless what decides it has changed, and names are checked."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.evidence import FILE, EvidenceSettings, EvidenceTableRow, Observation, SeedResult, measuring
from flows.evidence.experiment import Experiment
from infra.errors import InputError, LongmillError, RecipeError


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(row, seed) of each measurement; there are two rows, and no server is started."""
    measured: list[tuple[str, int]] = []

    def row(number: int, name: str, method: str) -> EvidenceTableRow:
        def measure(experiment: Experiment) -> SeedResult:
            measured.append((name, experiment.seed))
            return SeedResult([Observation("q", "list", 1024, {"SubEM gain": (0.5, 1.0)})], {"pairs": 1})

        return EvidenceTableRow(number, name, f"{name}?", "—", "reported", (method,), measure)

    @contextlib.contextmanager
    def served_models(settings: EvidenceSettings, missing: Any) -> Iterator[dict[str, tuple[str, ...]]]:
        yield {}

    rows = {"one": row(1, "one", "sealong"), "two": row(2, "two", "longreward")}
    monkeypatch.setattr(measuring, "evidence_rows", lambda: rows)
    monkeypatch.setattr(measuring, "served_models", served_models)
    return measured


def run(only: tuple[str, ...] = (), **settings: Any) -> dict[str, Any]:
    evidence_settings = EvidenceSettings("mill", **{"questions": 8, "seeds": 2} | settings)
    return measuring.measure(evidence_settings, measuring.selected_rows(only))


@pytest.mark.medium
def test_a_stored_result_is_not_measured_again(folder: Path, measured: list[tuple[str, int]]) -> None:
    run(only=("two",))
    assert measured == [("two", 0), ("two", 1)]
    table = run()
    assert measured == [("two", 0), ("two", 1), ("one", 0), ("one", 1)]
    assert [(row["name"], row["seeds"], row["questions"]) for row in table["rows"]] == [
        ("one", [0, 1], 2),
        ("two", [0, 1], 2),
    ]
    assert run() == table
    assert len(measured) == 4
    assert json.loads((folder / "mill/evidence/evidence.json").read_text()) == table
    assert "| one? |" in (folder / "mill/evidence/evidence.md").read_text()


@pytest.mark.medium
def test_a_run_that_was_stopped_keeps_its_results(folder: Path, measured: list[tuple[str, int]]) -> None:
    def stopped(experiment: Experiment) -> SeedResult:
        raise LongmillError("stopped")

    rows = measuring.evidence_rows()
    measure = rows["two"].measure
    object.__setattr__(rows["two"], "measure", stopped)
    with pytest.raises(LongmillError, match="stopped"):
        run()
    object.__setattr__(rows["two"], "measure", measure)
    run()
    assert measured == [("one", 0), ("two", 0), ("one", 1), ("two", 1)]


@pytest.mark.medium
def test_a_change_of_what_decides_a_figure_measures_again_and_a_change_of_speed_does_not(
    folder: Path, measured: list[tuple[str, int]]
) -> None:
    run(seeds=1)
    run(seeds=1, changes=("execution.concurrency=3",))
    assert measured == [("one", 0), ("two", 0)]
    for changes in ({"questions": 9}, {"changes": ("training.beta=0.3",)}, {"changes": ("policy.revision=x",)}):
        measured.clear()
        run(seeds=1, **changes)
        assert measured == [("one", 0), ("two", 0)], changes


def test_an_unknown_row_is_named() -> None:
    with pytest.raises(RecipeError, match=r"--only seal.*consensus, sealong"):
        measuring.selected_rows(["seal"])


def test_a_file_of_questions_is_measured_by_its_own_rows() -> None:
    names = [row.name for row in measuring.selected_rows([], FILE)]
    assert names == ["consensus", "sealong", "sft", "short", "strategies"]
    assert "strategies" not in [row.name for row in measuring.selected_rows([])]
    with pytest.raises(RecipeError, match=r"longreward: is not measured on this text \(file\); these are: consensus, "):
        measuring.selected_rows(["longreward"], FILE)


def test_a_model_and_a_file_change_the_recipes() -> None:
    settings = EvidenceSettings("mill", 8, model="somewhere/model", file="questions.jsonl")
    recipe = Experiment(0, settings).recipe("sealong", "training.loss=sft", trained_on="tune")
    assert (recipe.policy.name, recipe.policy.tokenizer) == ("model", "somewhere/model")
    assert recipe.policy.serve is not None and recipe.policy.serve.model_path == "somewhere/model"
    assert recipe.questions.source == "mill/questions/seed-0/tune.jsonl"
    assert (recipe.sampling.samples, recipe.evaluation.suites) == (16, ("qa",))  # type: ignore[union-attr]
    assert settings.methods == ("sealong",)


def test_a_version_without_a_table_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "SHIPPED", folder / "measured.json")
    with pytest.raises(InputError, match="no table is shipped"):
        measuring.shipped_table()
    (folder / "measured.json").write_text('{"rows": []}')
    assert measuring.shipped_table() == {"rows": []}


def test_contexts_twice_as_long_fit_the_window_of_the_model_in_the_box() -> None:
    recipe = Experiment(0, EvidenceSettings("mill", 8)).recipe("sealong")
    assert recipe.policy.context_window == 1024 + 512
    assert recipe.seed == 0
    assert recipe.sampling.samples == 32
    assert recipe.scoring.prune is False
