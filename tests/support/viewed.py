"""Datasets written row by row, without a plan: what the viewer's tests and its measurement read."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from infra.canonical import canonical_json, text_id
from infra.store import Store
from tasks.records.dataset import EVIDENCE, PAIRS, published_schema
from tasks.records.example import DROP
from tasks.records.manifest import ManifestFile
from tasks.shard_part import write_table

SCORERS = ("helpfulness", "faithfulness")
Evidence = Callable[[Mapping[str, Any], str, str], list[dict[str, Any]]]  # of a pair's side: rows of `evidence`
_AROUND = ("Read the following text.\n\n", "\n\nQuestion: ")


def pair_row(number: int, text: str = "", **changes: Any) -> dict[str, Any]:
    """A row of `pairs`; `text` is in every text of it."""
    context = f"Ilse Brandt built bridge {number}. {text} It is long."
    question = f"Who built bridge {number}? {text}"
    margin = float(number % 7)
    row = {
        "prompt": [{"role": "user", "content": f"{_AROUND[0]}{context}{_AROUND[1]}{question}"}],
        "chosen": [{"role": "assistant", "content": f"Ilse Brandt built it. {text}"}],
        "rejected": [{"role": "assistant", "content": f"Nobody built it. {text}"}],
        "example_id": f"q{number:06d}{text}",
        "context_id": text_id(context),
        "question": question,
        "references": [f"Ilse {text}"],
        "kind": f"{'who' if number % 2 else 'what'}{text}",
        "language": "zh" if number % 5 == 0 else "en",
        "chosen_index": 0,
        "rejected_index": 1,
        "chosen_reward": 2.0 + margin,
        "rejected_reward": 2.0,
        "margin": margin,
        "chosen_scores": [{"scorer": "helpfulness", "score": 9.0}, {"scorer": "faithfulness", "score": 2.0 + margin}],
        "rejected_scores": [{"scorer": "helpfulness", "score": None}, {"scorer": "faithfulness", "score": 2.0}],
        "strategy": "default",
        "model": "tiny",
        "revision": "r1",
        "prompt_tokens": 100 + number,
        "chosen_tokens": 8,
        "rejected_tokens": 5,
        "plan_id": "p" * 16,
    }
    return {**row, **changes}


def evidence_row(pair: Mapping[str, Any], side: str, text: str = "") -> dict[str, Any]:
    """The row of `evidence` of a pair's answer; its facts are supported by the context's first sentence."""
    end = len(f"Ilse Brandt built bridge {int(pair['example_id'][1:7])}.")
    fact = {
        "text": f"Ilse Brandt built it. {text}",
        "support": 1.0 if side == "chosen" else 0.5,
        "reply": f"[[1]] {text}",
    }
    fact |= {"passages": [[0, end]], "reason": None, "shared": False, "number": 1, "key": "k"}
    evidence = {
        "facts": [fact],
        "notes": [{"part": 1, "of": 1, "start": 0, "end": end, "text": f"A note. {text}", "reason": None}],
        "reply": f"It reads well. {text}",
    }
    judgements = []
    for entry in pair[f"{side}_scores"]:
        reason = "no_rating" if entry["score"] is None else None
        is_last = entry["scorer"] == SCORERS[-1]
        words = json.dumps(evidence if is_last else {"reply": f"Good. {text}"})
        judgements.append({**entry, "reason": reason, "evidence": words, "keys": []})
    return answer_row(pair, side, judgements)


def answer_row(pair: Mapping[str, Any], side: str, judgements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The row of `evidence` of a pair's answer, with these judgements."""
    names = ("example_id", "context_id", "question", "references", "kind", "language", "strategy", "plan_id")
    return {
        **{name: pair[name] for name in names},
        "sample_index": pair[f"{side}_index"],
        "text": pair[side][-1]["content"],
        "finish_reason": "stop",
        "prompt_tokens": pair["prompt_tokens"],
        "completion_tokens": pair[f"{side}_tokens"],
        "reward": pair[f"{side}_reward"],
        "judgements": judgements,
        "is_chosen": side == "chosen",
        "is_rejected": side == "rejected",
        "ledger_key": "k",
    }


def write_dataset(
    store: Store,
    shards: Sequence[Sequence[Mapping[str, Any]]],
    *,
    version: str = "0123456789abcdef",
    text: str = "",
    drops: Sequence[Mapping[str, Any]] = (),
    with_evidence: bool = True,
    name: str = "lr",
    scorers: Sequence[str] = SCORERS,
    evidence: Evidence = lambda pair, side, text: [evidence_row(pair, side, text)],
) -> str:
    """Write datasets/NAME/VERSION of these rows of pairs, shard by shard; returns its folder in the store."""
    folder = f"datasets/{name}/{version}"
    files: list[ManifestFile] = []
    for index, pairs in enumerate(shards):
        table = pa.Table.from_pylist(list(pairs), schema=published_schema(PAIRS, False))
        files.append(write_table(store, folder, f"data/train/{index:04d}", table, "pairs", "train"))
        if with_evidence:
            rows = [row for pair in pairs for side in ("chosen", "rejected") for row in evidence(pair, side, text)]
            table = pa.Table.from_pylist(rows, schema=published_schema(EVIDENCE, False))
            files.append(write_table(store, folder, f"evidence/train/{index:04d}", table, "evidence", "train"))
    if drops:
        table = pa.Table.from_pylist(list(drops), schema=DROP)
        files.append(write_table(store, folder, "drops/0000", table, "drops", "train"))
    write_manifest(store, folder, files, sum(map(len, shards)), drops, scorers)
    return folder


def write_manifest(
    store: Store,
    folder: str,
    files: Sequence[ManifestFile],
    pairs: int,
    drops: Sequence[Mapping[str, Any]] = (),
    scorers: Sequence[str] = SCORERS,
) -> None:
    """The manifest of such a dataset, and latest.json beside it."""
    reasons: dict[str, int] = {}
    for drop in drops:
        reasons[drop["reason"]] = reasons.get(drop["reason"], 0) + 1
    _, name, version = folder.split("/")
    manifest = {
        "schema_version": 1,
        "name": name,
        "version": version,
        "licence": "cc-by-4.0",
        "plan_id": "p" * 16,
        "recipe": {"scoring": {"scorers": [{"scorer": name} for name in scorers]}, "judge": {"name": "judge"}},
        "model": {"name": "tiny", "revision": "r1"},
        "counts": {"questions": pairs + len(drops), "pairs": pairs, "drops": reasons, "answers": 2 * pairs},
        "files": list(files),
    }
    store.write(f"{folder}/manifest.json", canonical_json(manifest))
    pointer = {"version": version, "manifest": f"{folder}/manifest.json"}
    store.write(f"{folder.rpartition('/')[0]}/latest.json", canonical_json(pointer))
