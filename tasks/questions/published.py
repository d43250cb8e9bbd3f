"""A dataset of questions that Longmill has published, as a source: the folder of its versions, or that of one."""

import json
from typing import Any

from infra.errors import InputError
from tasks.records.manifest import parse_manifest
from tasks.records.product import QUESTIONS


def latest_version(filesystem: Any, folder: str) -> str:
    """The folder of the latest version, where this is a dataset's; else the folder itself."""
    pointer = f"{folder.rstrip('/')}/latest.json"
    if not filesystem.exists(pointer):
        return folder
    with filesystem.open(pointer, "rb") as file:
        try:
            version = str(json.loads(file.read())["version"])
        except (ValueError, KeyError, TypeError):
            return folder
    return f"{folder.rstrip('/')}/{version}"


def published_files(filesystem: Any, folder: str, source: str, split: str) -> list[str] | None:
    """The files of a published dataset's split; None where the folder is none of Longmill's.

    Raises InputError for a dataset of something else than questions, and for a split that it does not have.
    """
    path = f"{folder.rstrip('/')}/manifest.json"
    if not filesystem.exists(path):
        return None
    with filesystem.open(path, "rb") as file:
        data = file.read()
    if b'"schema_version"' not in data:
        return None
    files: dict[str, list[str]] = {}
    configs = set()
    for entry in parse_manifest(data, f"{source}/manifest.json")["files"]:
        configs.add(entry.get("config"))
        if entry.get("config") == QUESTIONS.name:
            files.setdefault(str(entry.get("split")), []).append(f"{folder.rstrip('/')}/{entry['path']}")
    if "pairs" in configs:
        raise InputError(f"{source}: a dataset of pairs, which are trained on; questions have a dataset of their own")
    if split not in files:
        there = ", ".join(sorted(files)) or "no question at all"
        raise InputError(f"{source}: has no questions in the split {split!r}; it has {there}")
    return files[split]
