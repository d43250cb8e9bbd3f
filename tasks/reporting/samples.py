"""A few pairs of a dataset, short enough to read: what the report shows of the text itself."""

from collections.abc import Mapping, Sequence
from itertools import groupby, islice
from typing import Any

import pyarrow.parquet as pq

from infra.store import Store
from tasks.reporting.dataset_card import shortened

_COLUMNS = (
    "example_id",
    "question",
    "references",
    "prompt",
    "chosen",
    "rejected",
    "chosen_reward",
    "rejected_reward",
    "chosen_scores",
    "rejected_scores",
    "prompt_tokens",
)
_AROUND = 160  # characters of the prompt on each side of a reference
_ANSWER = 700  # characters of an answer


def sample_pairs(store: Store, folder: str, manifest: Mapping[str, Any], count: int = 4) -> list[dict[str, Any]]:
    """The first training pairs of the dataset in `folder`, of `count` questions, texts shortened."""
    for each in manifest["files"]:
        if (each.get("config"), each.get("split")) == ("pairs", "train"):
            with store.open(f"{folder}/{each['path']}") as file:
                batches = pq.ParquetFile(file).iter_batches(count, columns=list(_COLUMNS))
                rows = (row for batch in batches for row in batch.to_pylist())
                firsts = (next(of_question) for _, of_question in groupby(rows, key=lambda row: row["example_id"]))
                return [_readable(row) for row in islice(firsts, count)]
    return []


def excerpt(prompt: str, references: Sequence[str]) -> str:
    """The part of a long prompt around the first reference that it holds; else its beginning and its end."""
    lowered = prompt.lower()
    # A reference of a character or two is found anywhere.
    places = [lowered.find(reference.lower()) for reference in references if len(reference) > 2]
    place = min((place for place in places if place >= 0), default=-1)
    if place < 0 or len(prompt) <= 2 * _AROUND:
        return shortened(prompt, 2 * _AROUND)
    start, end = max(0, place - _AROUND), min(len(prompt), place + _AROUND)
    return f"{'[…] ' if start else ''}{prompt[start:end].strip()}{' […]' if end < len(prompt) else ''}"


def _readable(row: Mapping[str, Any]) -> dict[str, Any]:
    prompt = row["prompt"][-1]["content"]
    return {
        "question": row["question"],
        "references": row["references"],
        "prompt": excerpt(prompt, row["references"]),
        "prompt_characters": len(prompt),
        "prompt_tokens": row["prompt_tokens"],
        "answers": [
            {
                "side": side,
                "text": shortened(row[side][-1]["content"], _ANSWER),
                "reward": row[f"{side}_reward"],
                "scores": row[f"{side}_scores"],
            }
            for side in ("chosen", "rejected")
        ],
    }
