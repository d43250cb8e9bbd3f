"""Measuring: what is kept is not measured again, what decides it has changed is, and names are checked."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.evidence import EvidenceRow, EvidenceSettings, Measured, Observation, measuring
from flows.evidence.workplace import Workplace
from infra.errors import InputError, LongmillError, RecipeError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(row, seed) of each measurement that was made; there are two rows, and no server is started."""
    made: list[tuple[str, int]] = []

    def row(number: int, name: str, method: str) -> EvidenceRow:
        def measure(work: Workplace) -> Measured:
            made.append((name, work.seed))
            return Measured([Observation("q", "list", 1024, {"SubEM gain": (0.5, 1.0)})], {"pairs": 1})

        return EvidenceRow(number, name, f"{name}?", "—", "reported", (method,), measure)

    @contextlib.contextmanager
    def served(settings: EvidenceSettings, missing: Any) -> Iterator[dict[str, tuple[str, ...]]]:
        yield {}

    rows = {"one": row(1, "one", "sealong"), "two": row(2, "two", "longreward")}
    monkeypatch.setattr(measuring, "known_rows", lambda: rows)
    monkeypatch.setattr(measuring, "served", served)
    return made


def run(only: tuple[str, ...] = (), **settings: Any) -> dict[str, Any]:
    return measuring.measure(
        EvidenceSettings("mill", **{"questions": 8, "seeds": 2} | settings), measuring.chosen_rows(only)
    )


def test_a_result_that_is_kept_is_not_measured_again(folder: Path, asked: list[tuple[str, int]]) -> None:
    run(only=("two",))
    assert asked == [("two", 0), ("two", 1)]
    found = run()
    assert asked == [("two", 0), ("two", 1), ("one", 0), ("one", 1)]
    assert [(each["name"], each["seeds"], each["questions"]) for each in found["rows"]] == [
        ("one", [0, 1], 2),
        ("two", [0, 1], 2),
    ]
    assert run() == found
    assert len(asked) == 4
    assert json.loads((folder / "mill/evidence/evidence.json").read_text()) == found
    assert "| one? |" in (folder / "mill/evidence/evidence.md").read_text()


def test_a_run_that_was_stopped_keeps_what_it_has(
    folder: Path, asked: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(work: Workplace) -> Measured:
        raise LongmillError("stopped")

    rows = measuring.known_rows()
    monkeypatch.setattr(measuring, "known_rows", lambda: rows)
    before = rows["two"].measure
    object.__setattr__(rows["two"], "measure", stopped)
    with pytest.raises(LongmillError, match="stopped"):
        run()
    object.__setattr__(rows["two"], "measure", before)
    run()
    assert asked == [("one", 0), ("two", 0), ("one", 1), ("two", 1)]


def test_what_decides_a_figure_measures_it_anew_and_how_it_runs_does_not(
    folder: Path, asked: list[tuple[str, int]]
) -> None:
    run(seeds=1)
    run(seeds=1, changes=("execution.concurrency=3",))
    assert asked == [("one", 0), ("two", 0)]
    for changed in ({"questions": 9}, {"changes": ("training.beta=0.3",)}, {"changes": ("policy.revision=x",)}):
        asked.clear()
        run(seeds=1, **changed)
        assert asked == [("one", 0), ("two", 0)], changed


def test_a_row_that_there_is_not_is_named() -> None:
    with pytest.raises(RecipeError, match=r"--only seal.*consensus, sealong"):
        measuring.chosen_rows(["seal"])


def test_a_version_without_a_table_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "SHIPPED", folder / "measured.json")
    with pytest.raises(InputError, match="no table is shipped"):
        measuring.shipped_table()
    (folder / "measured.json").write_text('{"rows": []}')
    assert measuring.shipped_table() == {"rows": []}


def test_contexts_twice_as_long_fit_the_window_of_the_model_in_the_box() -> None:
    recipe = Workplace(0, EvidenceSettings("mill", 8)).recipe("sealong")
    assert recipe.policy.context_window == 1024 + 512
    assert recipe.seed == 0
    assert recipe.sampling.samples == 32
    assert recipe.scoring.prune is False
