"""The map of a score by depth and length: what its cells hold, and where there is none."""

from collections.abc import Mapping

import pytest

from tasks.evaluation.compare import EvaluationRow
from tasks.reporting.heat_map import Cell, heat_cells, heat_map, length_name


def row(length: int, depth: float | None, score: float | None) -> EvaluationRow:
    """A row of a generated suite."""
    groups: Mapping[str, float | str] = {"length": length} if depth is None else {"length": length, "depth": depth}
    missing = {"recall": "content_filter"} if score is None else {}
    return EvaluationRow(
        "id", "single", length, False, "", "stop", True, {"recall": score}, missing, "needle", "single", groups
    )


ROWS = [row(4096, 0.5, 1.0), row(4096, 0.5, 0.0), row(4096, 0.0, None), row(1 << 20, 0.5, 1.0), row(4096, None, 0.0)]


def test_a_cell_has_the_mean_and_n_of_its_questions() -> None:
    assert heat_cells(ROWS, "recall") == [Cell(4096, 0.0, None, 0), Cell(4096, 0.5, 0.5, 2), Cell(1 << 20, 0.5, 1.0, 1)]


@pytest.mark.parametrize("after", [None, ROWS])
def test_the_map_says_every_cell_on_both_grounds(after: list[EvaluationRow] | None) -> None:
    image = heat_map(ROWS, after, "recall")
    assert image is not None
    for svg in (image["light"], image["dark"]):
        for text in (">50<", ">100<", ">–<", "n = 2", ">4k<", ">1M<", ">depth (%)<"):
            assert text in svg
        assert (">after<" in svg) is (after is not None)
    assert "#fcfcfa" in image["light"]
    assert "#fcfcfa" not in image["dark"]
    assert heat_map(ROWS, after, "recall") == image


def test_one_length_or_one_depth_is_no_map() -> None:
    assert heat_map(ROWS[:3], None, "recall") is None  # two depths
    assert heat_map([ROWS[0], ROWS[3]], None, "recall") is None  # two lengths
    assert heat_map(ROWS[:2], None, "recall") is None
    assert heat_map(ROWS[4:], None, "recall") is None


@pytest.mark.parametrize(("length", "name"), [(1000, "1,000"), (8192, "8k"), (1 << 20, "1M"), (32_000, "32,000")])
def test_lengths_are_written_as_people_do(length: int, name: str) -> None:
    assert length_name(length) == name
