"""The house keeps its rules: imports run one way, files stay small, nothing unpickles, docs are complete."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for name in ("flows", "tasks", "infra") for path in (ROOT / name).rglob("*.py"))
ALLOWED = {"flows": {"flows", "tasks", "infra"}, "tasks": {"tasks", "infra"}, "infra": {"infra"}}


def _imports(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_from_flows_to_tasks_to_infra(path: Path) -> None:
    own = _imports(ast.parse(path.read_text())) & {"flows", "tasks", "infra", "tests"}
    assert own <= ALLOWED[path.relative_to(ROOT).parts[0]]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_says_what_it_is_and_stays_small(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "no docstring at the top"
    assert text.count("\n") <= 340


def test_nothing_unpickles() -> None:
    guilty = [path for path in SOURCES if _imports(ast.parse(path.read_text())) & {"pickle", "cloudpickle", "dill"}]
    loads = [path for path in SOURCES if re.search(r"torch\.load\((?!.*weights_only=True)", path.read_text())]
    assert guilty == loads == []


def test_the_readme_names_every_verb() -> None:
    from typer.main import get_command

    from flows.cli.app import app

    verbs = get_command(app).commands  # type: ignore[attr-defined]
    readme = (ROOT / "README.md").read_text()
    assert [name for name in verbs if f"longmill {name}" not in readme] == []
    assert [name for name, verb in verbs.items() if not verb.help] == []
