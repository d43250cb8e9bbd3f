"""Every package that the code imports is declared in pyproject.toml, and no package of the tests alone is required."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.medium

ROOT = Path(__file__).parents[1]
OWN = {"flows", "tasks", "infra", "tests"}
DISTRIBUTIONS = {
    "yaml": "pyyaml",
    "PIL": "pillow",
    "docx": "python-docx",
}  # where the name differs by more than - and _
# Loaded by name: the S3 file system of fsspec, what transformers reads GGUF files with, and the pin of a package that
# Prefect's server imports.
NOT_IMPORTED = {"s3fs", "gguf", "fastapi"}
TELEMETRY = "opentelemetry"  # what the packages of the extra `telemetry` are imported as, in one file alone


def _imports(folders: tuple[str, ...]) -> dict[str, str]:
    """The imported third-party packages, as distributions, each with one file that imports it."""
    packages: dict[str, str] = {}
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                modules: list[str] = []
                if isinstance(node, ast.Import):
                    modules = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                    modules = [node.module]
                for module in modules:
                    name = module.partition(".")[0]
                    if name not in sys.stdlib_module_names and name not in OWN:
                        packages[DISTRIBUTIONS.get(name, name.replace("_", "-"))] = str(path.relative_to(ROOT))
    return packages


def _loaded_by_name(folder: Path) -> set[str]:
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        names.update(re.findall(r'load_library\("(\w+)"', path.read_text(encoding="utf-8")))
    return names


def _declared(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~ ]", requirement)[0].lower() for requirement in requirements}


def test_every_import_is_declared_and_the_runtime_list_has_nothing_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    runtime = _declared(project["dependencies"])
    development = _declared(project["optional-dependencies"]["dev"])
    imported = _imports(("flows", "tasks", "infra"))
    assert imported.pop(TELEMETRY) == "infra/running/telemetry.py"
    extra = _declared(project["optional-dependencies"]["telemetry"])
    assert extra <= development and all(name.startswith(TELEMETRY) for name in extra)
    missing = {name: path for name, path in imported.items() if name not in runtime}
    assert not missing, f"imported and not declared in pyproject.toml's dependencies: {missing}"
    unused = runtime - imported.keys() - NOT_IMPORTED
    assert not unused, f"declared in pyproject.toml's dependencies and not imported: {unused}"
    optional = _declared(project["optional-dependencies"]["documents"])
    loaded = set()
    for name in _loaded_by_name(ROOT / "tasks" / "documents"):
        loaded.add(DISTRIBUTIONS.get(name, name.replace("_", "-")))
    assert loaded == optional, "what tasks/documents loads is not what the extra `documents` declares"
    declared = runtime | development | optional | {TELEMETRY}
    tests = {name: path for name, path in _imports(("tests",)).items() if name not in declared}
    assert not tests, f"imported by tests and declared nowhere: {tests}"
