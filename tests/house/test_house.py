"""The house keeps its rules: imports run one way, files stay small, nothing unpickles, docs are complete."""

import ast
import functools
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.plain_words import ROOT, source_files

SOURCES = source_files()
ALLOWED = {"flows": {"flows", "tasks", "infra"}, "tasks": {"tasks", "infra"}, "infra": {"infra"}}


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _imports(tree: ast.AST) -> set[str]:
    """The packages that a module imports."""
    packages = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            packages |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            packages.add(node.module.partition(".")[0])
    return packages


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_from_flows_to_tasks_to_infra(path: Path) -> None:
    own = _imports(_tree(path)) & {"flows", "tasks", "infra", "tests"}
    assert own <= ALLOWED[path.relative_to(ROOT).parts[0]]


def _imported_files(path: Path) -> Iterator[Path]:
    """The files of the house that a module imports, wherever in it; but not those of which it names types alone."""
    tree = _tree(path)
    for_types: set[ast.AST] = set()
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for_types |= set(node.body)
    for node in set(ast.walk(tree)) - for_types:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield from _file_of(f"{node.module}.{alias.name}") or _file_of(node.module)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from _file_of(alias.name)


def _file_of(module: str) -> set[Path]:
    path = ROOT.joinpath(*module.split("."))
    return {path.with_suffix(".py"), path / "__init__.py"} & set(SOURCES)


@pytest.mark.medium
def test_no_module_imports_in_a_circle() -> None:
    """One that is imported late to hide a circle counts too."""
    graph = {path: set(_imported_files(path)) - {path} for path in SOURCES}
    assert sum(map(len, graph.values())) > len(SOURCES)  # so it has read them
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(str(path.relative_to(ROOT)) for path in error.args[1]))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_says_what_it_is_and_stays_small(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "no docstring at the top"
    assert text.count("\n") <= 450


@pytest.mark.medium
def test_nothing_unpickles() -> None:
    faults = []
    for path in SOURCES:
        text = path.read_text()
        imports_pickle = _imports(ast.parse(text)) & {"pickle", "cloudpickle", "dill"}
        if imports_pickle or re.search(r"torch\.load\((?!.*weights_only=True)", text):
            faults.append(path)
    assert faults == []
