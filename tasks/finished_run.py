"""Runs that have ended: what each was given and what it left in the store, so that the same run again does nothing.

After a run, `reports/NAME/run.json` names the inputs by one digest: the recipe, the files that it names, this program
and its libraries, and the machine. A run with the same digest would publish, train and evaluate the same. It is not
run again as long as all that the first one made is there. Where the inputs cannot be told from here, as those of a
URL or of the hub, and where a server is to be asked again, the run takes its usual way, which pays for nothing twice.
"""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from infra.canonical import fingerprint
from infra.errors import StoreError
from infra.models.packaged.models import BOX
from infra.recipe import Recipe
from infra.store import Store
from tasks.late_servers import servers_may_wait

_ROOT = Path(__file__).parents[1]
_CODE = ("infra", "tasks", "flows")
_SOURCES = ("source", "pool")  # keys whose values are read
_READ_BYTES = 64 << 20  # of a larger file the size and the time of its last change are looked at


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """The reports of a run that has nothing to do, a round each, and when it ended, in UTC."""

    reports: list[dict[str, Any]]
    ended: str


def run_inputs(recipe: Recipe, rounds: int) -> str | None:
    """The digest of all that decides what a run makes; None where it cannot be told from here."""
    if recipe.documents is not None:
        return None
    settings = recipe.model_dump(mode="json")
    files = {}
    for key, value in _texts(settings):
        is_name = any(map(str.isalnum, value)) and key != "store"
        path = Path(value).expanduser()
        if is_name and path.exists():
            files[value] = _content(path)
        elif key in _SOURCES or (key == "tokenizer" and not (BOX / value).is_dir()):
            return None
    suites = recipe.evaluation.suites if recipe.evaluation else ()
    for _, value in _texts(list(suites)):
        if "/" in value and value not in files:  # a suite may read what it names
            return None
    versions = sorted(f"{package.name} {package.version}" for package in metadata.distributions())
    code = [_content(_ROOT / folder) for folder in _CODE]
    return fingerprint([settings, rounds, files, versions, code, platform.node(), platform.python_version()])


def record_run(store: Store, recipe: Recipe, inputs: str | None, reports: Sequence[Mapping[str, Any]]) -> None:
    """Write what the run with these inputs has made."""
    if inputs is None:
        return
    folders = sorted(set(_folders(store, reports)))
    record = {
        "inputs": inputs,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "reports": list(reports),
        "made": {folder: _sizes(store, folder) for folder in folders},
    }
    store.write(_record_path(recipe), json.dumps(record, ensure_ascii=False).encode())


def finished_run(store: Store, recipe: Recipe, inputs: str | None) -> FinishedRun | None:
    """The run with these inputs, where all that it made is in the store as it left it; None where it is to be run."""
    try:
        if inputs is None or not store.exists(_record_path(recipe)):
            return None
        record = json.loads(store.read(_record_path(recipe)))
        if record["inputs"] != inputs or not servers_may_wait(store, recipe):
            return None
        latest = json.loads(store.read(f"datasets/{recipe.dataset.name}/latest.json"))
        if latest["manifest"] != record["reports"][-1]["manifest"]["path"]:
            return None
        for folder, sizes in record["made"].items():
            if _sizes(store, folder) != sizes:
                return None
        return FinishedRun(record["reports"], record["ended"])
    except (StoreError, ValueError, KeyError, TypeError):
        return None  # of another version, or damaged


def _record_path(recipe: Recipe) -> str:
    return f"reports/{recipe.name}/run.json"


def _folders(store: Store, reports: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The folders in the store of the datasets, models and reports."""
    root = store.place("").rstrip("/") + "/"
    for report in reports:
        yield report["manifest"]["path"].rpartition("/")[0]
        yield report["report"].removeprefix(root)
        if report["trained"]:
            yield report["trained"]["model"]


def _sizes(store: Store, folder: str) -> dict[str, int]:
    return {path: size for path, size in store.sizes(folder).items() if not path.endswith("/run.json")}


def _texts(settings: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All texts of a recipe, with their keys."""
    if isinstance(settings, Mapping):
        for name, member in settings.items():
            yield from _texts(member, name)
    elif isinstance(settings, list):
        for member in settings:
            yield from _texts(member, key)
    elif isinstance(settings, str) and len(settings) < 4096 and "\0" not in settings and "\n" not in settings:
        yield key, settings


def _content(path: Path) -> str:
    """A digest of a file, or of all files of a folder with their names."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        if not file.is_file() or "__pycache__" in file.parts:
            continue
        state = file.stat()
        content = f"{state.st_size} {state.st_mtime_ns}".encode()
        if state.st_size <= _READ_BYTES:
            content = hashlib.sha256(file.read_bytes()).digest()
        digest.update(fingerprint(str(file.relative_to(path))).encode() + content)
    return digest.hexdigest()
