"""Environments from lock files: uv first, pip after it, and no file whose hash is not the lock's."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from infra.running import environments
from infra.running.environments import pip_settings, uv_settings

pytestmark = pytest.mark.medium

SCRIPT = Path(environments.__file__)
UV = '#!/bin/sh\necho "error: $UV_FIND_LINKS has a fault" >&2\nexit 2\n'


def _wheel(folder: Path) -> str:
    """A wheel of one module in `folder`; its hash."""
    folder.mkdir()
    path = folder / "acorn-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("acorn.py", "COLOUR = 'brown'\n")
        wheel.writestr("acorn-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: acorn\nVersion: 1.0\n")
        wheel.writestr("acorn-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("acorn-1.0.dist-info/RECORD", "acorn.py,,\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _make(folder: Path, digest: str) -> subprocess.CompletedProcess[str]:
    """Make an environment with a uv that fails, from a lock of the wheel in folder/wheels."""
    lock, uv = folder / "lock.txt", folder / "bin" / "uv"
    lock.write_text(f"acorn==1.0 \\\n    --hash=sha256:{digest}\n")
    uv.parent.mkdir()
    uv.write_text(UV)
    uv.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    # A constraint of the machine's own, without a hash, must not stop pip.
    (folder / "constraints.txt").write_text("acorn<2\n")
    environment |= {
        "PATH": f"{uv.parent}:/usr/bin:/bin",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder / "wheels"),
        "PIP_CONSTRAINT": str(folder / "constraints.txt"),
    }
    return subprocess.run(
        [sys.executable, SCRIPT, folder / "env", lock], env=environment, capture_output=True, text=True, check=False
    )


def test_pip_does_the_work_of_a_uv_that_fails(tmp_path: Path) -> None:
    digest = _wheel(tmp_path / "wheels")
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "left.over").touch()
    done = _make(tmp_path, digest)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "making env",
        f"uv failed ({tmp_path / 'wheels'} has a fault): pip does its work, which takes minutes",
    ]
    assert not (tmp_path / "env" / "left.over").exists()
    code = "import acorn; print(acorn.COLOUR)"
    assert subprocess.check_output([tmp_path / "env/bin/python", "-c", code], text=True) == "brown\n"


def test_a_file_with_another_hash_is_refused(tmp_path: Path) -> None:
    digest = _wheel(tmp_path / "wheels")
    done = _make(tmp_path, digest[::-1])
    assert done.returncode == 3
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert done.stderr.endswith(f"error: {tmp_path / 'env'} was not made; `make` again starts it anew\n")


def test_uv_gets_the_settings_of_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = http://127.0.0.1/a\nextra-index-url = http://127.0.0.1/b\n  http://127.0.0.1/c\n"
        "timeout = 5\n[install]\nfind-links = wheels\n[download]\ncert = other.pem\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1/d")
    monkeypatch.setenv("PIP_FIND_LINKS", "first second")
    settings = uv_settings(pip_settings(Path(sys.executable)), {"UV_DEFAULT_INDEX": "http://127.0.0.1/e"})
    assert settings.pop("SSL_CERT_FILE", None) != "other.pem"  # of another of pip's commands
    assert settings == {
        "UV_DEFAULT_INDEX": "http://127.0.0.1/e",  # what was said to uv itself stays
        "UV_INDEX": "http://127.0.0.1/b http://127.0.0.1/c",
        "UV_FIND_LINKS": "first,second",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    assert pip_settings(Path(sys.executable))["index-url"] == "http://127.0.0.1/d"
