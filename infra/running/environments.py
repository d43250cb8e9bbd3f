"""Makes an environment from lock files: with uv where it can be had, else with pip. Every file is checked by its hash.

Uses the standard library alone: `make` runs this file before there is an environment.
"""

import argparse
import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "locks"
# No build isolation: what is built (the project, one test package) is built with the setuptools of the lock.
INSTALL = ("install", "--quiet", "--no-deps", "--no-build-isolation")
# uv does not read pip's settings, where companies name their mirror. pip's name of each, and uv's.
UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}
# pip refuses constraints without hashes, which a machine's settings may name, beside a lock.
_PIP_ENVIRONMENT = {**os.environ, "PIP_CONSTRAINT": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


class InstallError(Exception):
    """An installer failed; the text is what it wrote."""


def make_environment(folder: Path, locks: Sequence[Path], *, project: bool) -> None:
    """Make `folder` anew with what `locks` pin, and with this project if `project`.

    A lock whose packages are built from source comes after the one that has setuptools. InstallError: pip failed too.
    """
    print(f"making {folder.name}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)], os.environ)
    python = folder / "bin" / "python"
    uv = find_uv(python)
    if uv is None:
        print("uv cannot be had: pip does its work, which takes minutes", flush=True)
    else:
        settings = uv_settings(pip_settings(python), os.environ)
        try:
            for lock in locks:
                _install_by_uv(uv, python, lock, settings)
            if project:
                _run([uv, "pip", *INSTALL, "--python", str(python), "--editable", str(ROOT)], settings)
            return
        except InstallError as error:
            print(f"uv failed ({_first_line(error)}): pip does its work, which takes minutes", flush=True)
    for lock in locks:
        _run(_pip(python, "--require-hashes", "--requirement", str(lock)), _PIP_ENVIRONMENT)
    if project:
        _run(_pip(python, "--editable", str(ROOT)), _PIP_ENVIRONMENT)


def find_uv(python: Path) -> str | None:
    """The path of uv: the machine's own, else one that pip installs beside `python`; None if pip cannot."""
    for place in (shutil.which("uv"), shutil.which(python.with_name("uv")), shutil.which(ROOT / ".venv/bin/uv")):
        if place:
            return place
    try:
        _run(_pip(python, "--require-hashes", "--requirement", str(LOCKS / "uv.txt")), _PIP_ENVIRONMENT)
    except InstallError:
        return None
    return str(python.with_name("uv"))


def pip_settings(python: Path) -> dict[str, str]:
    """pip's settings from its files and the environment, by name; its variables win over its files."""
    listed = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    ranked: dict[str, tuple[int, str]] = {}
    for line in listed.stdout.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in (ranks := {"global": 0, "install": 1, ":env:": 2}):
            setting = (ranks[section], str(ast.literal_eval(value)))
            ranked[name] = max(ranked.get(name, setting), setting, key=lambda pair: pair[0])
    return {name: value for name, (_, value) in ranked.items()}


def uv_settings(of_pip: dict[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` with pip's settings in uv's words. What the environment says to uv already stays."""
    settings = dict(environment)
    for name, uv_name in UV_NAMES.items():
        if name in of_pip:
            separator = "," if name == "find-links" else " "
            settings.setdefault(uv_name, separator.join(of_pip[name].split()))
    # pip looks in every index for the best file; the hashes say that it is the right one.
    settings.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return settings


def _install_by_uv(uv: str, python: Path, lock: Path, settings: dict[str, str]) -> None:
    command = [uv, "pip", *INSTALL, "--python", str(python), "--require-hashes", "--requirement", str(lock)]
    try:
        _run(command, settings)
    except InstallError:
        if lock.name != "torch-cpu.txt":
            raise
        _run(command, {**settings, "UV_TORCH_BACKEND": "cpu"})  # PyTorch's own index, which uv knows


def _pip(python: Path, *arguments: str) -> list[str]:
    return [str(python), "-m", "pip", *INSTALL, *arguments]


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise InstallError(done.stderr.strip() or done.stdout.strip() or f"it ended with status {done.returncode}")


def _first_line(error: InstallError) -> str:
    return str(error).partition("\n")[0].removeprefix("error: ")


def main() -> int:
    """The command line that the Makefile uses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("locks", type=Path, nargs="+")
    parser.add_argument("--project", action="store_true", help="install this project too, as editable")
    arguments = parser.parse_args()
    try:
        make_environment(arguments.folder, arguments.locks, project=arguments.project)
    except InstallError as error:
        print(f"{error}\nerror: {arguments.folder} was not made; `make` again starts it anew", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
