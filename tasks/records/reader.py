"""A published dataset as people and reports read it: from its folder alone, every file hashed before it is used.

A dataset is named by its folder, its manifest.json, or the folder of its versions (the latest is taken), on disk or
in any store. Rows come in batches, so memory does not grow with the dataset. Leaves out training's own reading
(`tasks/training/published.py`), which knows nothing but the train split.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.canonical import text_id
from infra.errors import InputError, StoreError
from infra.store import Store, open_store
from tasks.prompts import load_prompt, prompt_names
from tasks.records.manifest import read_manifest

_BATCH = 32
_PIECE = 1 << 20
_EDGE_LINES = 64  # of a prompt, before and after its context


@dataclass(frozen=True, slots=True)
class ReadDataset:
    """A dataset in a store of its own: paths are relative to its folder."""

    store: Store
    manifest: Mapping[str, Any]

    @property
    def place(self) -> str:
        """Its folder, as a person would paste it."""
        return self.store.show("")

    @property
    def weights(self) -> dict[str, float]:
        """Each scorer's weight in the reward."""
        scorers = self.manifest["recipe"]["scoring"]["scorers"]
        return {each["scorer"]: float(each.get("weight", 1.0)) for each in scorers}

    def rows(self, config: str, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The rows of a configuration, train before test, each with its `split`.

        Raises StoreError for a file that was changed.
        """
        for split in ("train", "test"):
            for each in self.manifest["files"]:
                if (each.get("config"), each.get("split")) == (config, split):
                    self._check(each)
                    for row in self._read(each["path"], columns):
                        yield {**row, "split": split}

    def _check(self, file: Mapping[str, Any]) -> None:
        digest = hashlib.sha256()
        with self.store.open(file["path"]) as stream:
            while piece := stream.read(_PIECE):
                digest.update(piece)
        if digest.hexdigest() != file["sha256"]:
            raise StoreError(
                f"{self.store.show(file['path'])}: was changed after it was published; remove the folder, build again"
            )

    def _read(self, path: str, columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
        with self.store.open(path) as stream:
            try:
                for batch in pq.ParquetFile(stream).iter_batches(_BATCH, columns=columns and list(columns)):
                    yield from batch.to_pylist()
            except pa.ArrowInvalid as error:
                raise StoreError(f"{self.store.show(path)}: not a Parquet file ({error}); build again") from error


def read_dataset(place: str) -> ReadDataset:
    """The dataset at a path or URL. Raises InputError where there is none, StoreError for a damaged manifest."""
    folder = place.removesuffix("manifest.json").rstrip("/") or ("/" if place.startswith("/") else ".")
    store = open_store(folder)
    if store.exists("manifest.json"):
        return ReadDataset(store, read_manifest(store, "manifest.json"))
    if store.exists("latest.json"):
        latest = open_store(f"{folder}/{json.loads(store.read('latest.json'))['version']}")
        return ReadDataset(latest, read_manifest(latest, "manifest.json"))
    raise InputError(f"{place}: no dataset there (no manifest.json); give the folder that build printed")


def context_in(prompt: str, row: Mapping[str, Any]) -> str | None:
    """The context that a pair's prompt holds, found by its hash, so that no offset is ever shown of another text.

    The prompt file of the strategy says where the context stands; where that file has changed since, the context is
    looked for between the lines at both ends of the prompt. Null when it is nowhere.
    """
    name = f"sample-{row['strategy']}"
    template = load_prompt(name, row["language"]).text if name in prompt_names(row["language"]) else ""
    before, mark, after = template.partition("{context}")
    start = len(before.replace("{question}", row["question"]))
    end = len(prompt) - len(after.replace("{question}", row["question"]))
    if mark and text_id(prompt[start:end]) == row["context_id"]:
        return prompt[start:end]
    return _between_lines(prompt, row["context_id"])


def _between_lines(prompt: str, context_id: str) -> str | None:
    breaks = [place for place, letter in enumerate(prompt) if letter == "\n"]
    starts = [0, *(place + 1 for place in breaks[:_EDGE_LINES])]
    ends = [*breaks[-_EDGE_LINES:], len(prompt)]
    for start in starts:
        digest, done = hashlib.sha256(), start
        for end in ends:
            if end > start:
                digest.update(prompt[done:end].encode("utf-8", "surrogatepass"))
                done = end
                if digest.hexdigest() == context_id:
                    return prompt[start:end]
    return None
