"""Which files of a folder are read: those of one split of one configuration, where the folder has several.

A folder that was cloned from a hub says in its card (README.md, `configs`) which files belong to which split; there
`datasets` reads it. Else the names say it: `data/train-00000-of-00004.parquet`, `test.jsonl`. A folder whose names say
nothing is read whole.
"""

import re
from collections.abc import Sequence
from typing import Any

from infra.errors import InputError

_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
_CARD = "README.md"
_CARD_CHARACTERS = 1 << 16
_CONFIGS = re.compile(r"\A\ufeff?---\r?\n(?:.*\r?\n)*?configs:", re.MULTILINE)
_METADATA = {"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json"}


def without_metadata(files: Sequence[str], folder: str) -> list[str]:
    """The files of a folder without those that `datasets` and hubs keep beside the rows."""
    data = []
    for file in files:
        parts = _inside(file, folder).split("/")
        if parts[-1] not in _METADATA and not any(part.startswith(".") for part in parts):
            data.append(file)
    return data


def choose_files(
    filesystem: Any, folder: str, files: Sequence[str], source: str, subset: str | None, split: str
) -> tuple[list[str], str]:
    """The files of the split, and a note that says what else the folder has; the note is empty where it has nothing.

    `files` are the folder's data files. Raises InputError, with what there is, for a split or subset that is not there.
    """
    if _has_configs(filesystem, folder):
        return _by_card(filesystem, folder, source, subset, split)
    if subset is not None:
        raise InputError(f"{source}: has no configuration {subset!r}: its {_CARD} names none; leave `subset` out")
    by_split: dict[str, list[str]] = {}
    for file in files:
        by_split.setdefault(_split_of(_inside(file, folder)), []).append(file)
    named = sorted(filter(None, by_split))
    if len(named) < 2:
        return list(files), ""
    if "" in by_split:
        other = _inside(by_split[""][0], folder)
        raise InputError(
            f"{source}: holds files of the splits {', '.join(named)} and others, as {other}; name the files to read, "
            f"as {source}/{named[0]}*"
        )
    return _split(by_split, source, split), _note("split", named, split)


def _by_card(filesystem: Any, folder: str, source: str, subset: str | None, split: str) -> tuple[list[str], str]:
    """As `choose_files`, by the configurations of the folder's card."""
    if "file" not in filesystem.protocol:
        raise InputError(
            f"{source}: its {_CARD} names configurations, which are read from local folders alone; name the files to "
            f"read, as {source}/train*"
        )
    import datasets
    from datasets.exceptions import DatasetsError

    try:
        configs = datasets.get_dataset_config_names(folder)
        builder = datasets.load_dataset_builder(folder, subset)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, DatasetsError) as error:
        there = " ".join(str(error).split())
        raise InputError(
            f"{source}: its {_CARD} cannot be followed ({there}); set `subset`, or name the files"
        ) from error
    files_by_split: dict[str, list[str]] = {}
    for name, paths in (builder.config.data_files or {}).items():
        files_by_split[str(name)] = sorted(map(str, paths))
    chosen = _split(files_by_split, source, split)
    notes = [_note("configuration", configs, str(builder.config.name)), _note("split", sorted(files_by_split), split)]
    return chosen, "; ".join(filter(None, notes))


def _split(files_by_split: dict[str, list[str]], source: str, split: str) -> list[str]:
    name = split if split in files_by_split else _SPLIT_WORDS.get(split.lower(), split)
    if name not in files_by_split:
        raise InputError(
            f"{source}: has no split {split!r}; it has {', '.join(sorted(files_by_split))}: set `split`, or name files"
        )
    return files_by_split[name]


def _note(kind: str, names: Sequence[str], chosen: str) -> str:
    """What is read of several; `kind` is "split" or "configuration"."""
    if len(names) < 2:
        return ""
    key = "split" if kind == "split" else "subset"
    return f"the source has the {kind}s {', '.join(sorted(names))}: {chosen} is read (questions.{key})"


def _has_configs(filesystem: Any, folder: str) -> bool:
    card = f"{folder.rstrip('/')}/{_CARD}"
    if not filesystem.exists(card):
        return False
    with filesystem.open(card, "rb") as file:
        text = file.read(_CARD_CHARACTERS).decode("utf-8", "replace")
    header = text.partition("\n---")[0]
    return _CONFIGS.match(header + "\n") is not None


def _split_of(path: str) -> str:
    """The split that a file's name or folders say; empty where they say none."""
    for part in reversed(path.lower().split("/")):
        for word in re.split(r"[^a-z]+", part):
            if word in _SPLIT_WORDS:
                return _SPLIT_WORDS[word]
    return ""


def _inside(file: str, folder: str) -> str:
    return file.removeprefix(folder.rstrip("/")).lstrip("/")
