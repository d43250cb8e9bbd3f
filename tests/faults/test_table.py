"""The table of faults names every test of a fault, no test that is gone, and what was measured last."""

import ast
from pathlib import Path

import pytest

from tests.faults.table import HERE, PAGE, ROWS, measured, page
from tests.faults.test_model_server import FAULTS

ROOT = HERE.parents[1]


def names_of_tests(path: Path) -> set[str]:
    """The names of a file's tests."""
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault[:40])
def test_every_row_has_its_test(row: object) -> None:
    path, _, name = row.test.partition("::")  # type: ignore[attr-defined]
    assert name.partition("[")[0] in names_of_tests(ROOT / path)


def test_every_test_of_a_fault_has_a_row() -> None:
    assert len(ROWS) >= 20
    named = {row.test.partition("[")[0] for row in ROWS}
    for path in HERE.glob("test_*.py"):
        if path.name != "test_table.py":
            for name in names_of_tests(path):
                assert f"tests/faults/{path.name}::{name}" in named
    tests = [row.test for row in ROWS]
    assert len(set(tests)) == len(tests)
    of_servers = {
        test.partition("[")[2].rstrip("]") for test in tests if "test_model_server.py" in test and "[" in test
    }
    assert of_servers == set(FAULTS)


def test_the_page_has_what_was_measured_last() -> None:
    figures = measured()
    assert PAGE.read_text() == page(figures)
    assert figures.keys() <= {row.test for row in ROWS}
    for figure in figures.values():
        if "paid_again" in figure and "deaths" not in figure and "faults" not in figure:
            assert figure["paid_again"] <= figure["in_flight"]
