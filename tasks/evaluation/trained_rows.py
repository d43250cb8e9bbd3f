"""What a model was trained on, for the check that no evaluation question is among it.

The rows are those of the model's own dataset, which its job.json names by the hash of the manifest; without a trained
model they are those of the dataset that is evaluated on. A measurement is stored under the hash of both sides, so that
a nightly evaluation of the same questions reads the training rows once.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from infra.canonical import canonical_json
from infra.store import Store
from tasks.evaluation.contamination import Overlap, TrainingRow, measure_overlap, overlap_id
from tasks.records.example import Context, Example
from tasks.records.manifest import manifests
from tasks.records.reader import PublishedDataset, open_dataset

_COLUMNS = ("example_id", "context_id", "question", "references", "prompt")


def training_manifest(store: Store, manifest: str | None, trained: Mapping[str, Any] | None) -> str | None:
    """The manifest of the dataset that `trained` learned from, else `manifest`; None where neither is in the store.

    A model that was trained on pairs of others has none. Of one that is served elsewhere nothing is known.
    """
    if trained is None or trained.get("kind") == "endpoint":
        return manifest
    job_path = f"{trained.get('model')}/job.json"
    if not store.exists(job_path):
        return manifest
    job = json.loads(store.read(job_path))
    for path, sha256 in manifests(store, job["dataset"]):
        if sha256 == job["manifest"]:
            return path
    return None


def overlap_with_training(
    store: Store,
    questions: Sequence[tuple[Example, Context]],
    manifest: str | None,
    trained: Mapping[str, Any] | None,
    of_split: Collection[str] = (),
) -> Overlap | None:
    """The overlap of evaluation questions with what was trained on; None where that is not in the store.

    `of_split`: ids of the questions that are the test split of the dataset.
    """
    path = training_manifest(store, manifest, trained)
    if path is None or not questions:
        return None
    dataset = open_dataset(store, path)
    place = f"evaluations/overlaps/{overlap_id(questions, dataset.sha256, of_split)}.json"
    if store.exists(place):
        return Overlap.from_json(json.loads(store.read(place)))
    overlap = measure_overlap(questions, training_rows(dataset), of_split)
    store.write(place, canonical_json(overlap.to_json()))
    return overlap


def training_rows(dataset: PublishedDataset) -> Iterator[TrainingRow]:
    """The train split's questions, one row each, as they were asked. Raises StoreError for a damaged file."""
    last_id = None
    for table in dataset.tables("pairs", "train"):
        for row in table.rows_of(dataset.store, _COLUMNS):
            if row["example_id"] == last_id:  # neighbouring rows of one question are its pairs
                continue
            last_id = row["example_id"]
            text = "\n".join(str(message["content"]) for message in row["prompt"])
            yield TrainingRow(last_id, row["context_id"], row["question"], tuple(row["references"]), text)
