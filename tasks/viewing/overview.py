"""What the pages say of a whole dataset: counts of its manifest, and the figures of its run's report."""

import json
from collections.abc import Mapping
from typing import Any

from infra.errors import StoreError
from infra.store import Store
from tasks.records.product import PAIRS, product_of_counts
from tasks.records.reader import PublishedDataset, open_dataset
from tasks.records.shard import paired_questions
from tasks.viewing.library import Entry


class Overviews:
    """Figures of datasets, read once each; and the reports of runs, which are looked for anew."""

    def __init__(self) -> None:
        self._figures: dict[str, dict[str, Any]] = {}

    def of(self, entry: Entry) -> dict[str, Any]:
        """The figures of a dataset by its entry; "error" alone where its manifest cannot be read."""
        if entry.version not in self._figures:
            try:
                published = open_dataset(entry.store, entry.manifest)
                written = entry.store.written_at(entry.manifest)
                when = written.isoformat(timespec="minutes") if written else ""
                self._figures[entry.version] = {**dataset_figures(published), "written": when}
            except StoreError as error:
                return {"error": str(error)}
        return self._figures[entry.version]


def dataset_figures(published: PublishedDataset) -> dict[str, Any]:
    """Counts, yield, and how the dataset was made, from its manifest."""
    manifest = published.manifest
    counts = manifest["counts"]
    product = product_of_counts(counts)
    planned = int(counts[product.planned])
    made = paired_questions(counts) if product == PAIRS else product.made(counts)
    recipe = manifest["recipe"]
    judge = recipe.get("judge") or {}
    scorers = [scorer["scorer"] for scorer in recipe.get("scoring", {}).get("scorers", [])]
    return {
        "product": product.name,
        "planned": planned,
        "made": product.made(counts),
        "answers": counts.get("answers", 0),
        "yield": made / planned if planned else None,
        "drops": dict(sorted(counts["drops"].items(), key=lambda drop: (-drop[1], drop[0]))),
        "model": manifest["model"]["name"],
        "judge": judge.get("name"),
        "scorers": scorers,
        "licence": manifest["licence"],
        "plan_id": manifest["plan_id"],
        "sha256": published.sha256,
        "splits": _splits(manifest, product.name),
    }


def reports_of(store: Store) -> dict[str, dict[str, Any]]:
    """The figures of each run's report, by the sha256 of its dataset's manifest."""
    _, folders = store.children("reports")
    reports: dict[str, dict[str, Any]] = {}
    for folder, data in zip(folders, store.read_several([f"{name}/report.json" for name in folders]), strict=True):
        try:
            report = json.loads(data or b"{}")
            reports[report["manifest"]["sha256"]] = _report_figures(folder.rpartition("/")[2], report)
        except (ValueError, KeyError, TypeError):
            continue  # the page does without the report of a run that is under way, or of another version
    return reports


def _report_figures(name: str, report: Mapping[str, Any]) -> dict[str, Any]:
    made = sum(counts["made"] for counts in report["calls"].values())
    reused = sum(counts["reused"] for counts in report["calls"].values())
    gains = []
    for metric, before in (report["model"]["before"] or {}).items():
        after = (report["model"]["after"] or {}).get(metric)
        if after and before["value"] is not None and after["value"] is not None:
            gains.append({"metric": metric, "before": before["value"], "after": after["value"]})
    return {
        "name": name,
        "calls": made,
        "reused": reused,
        "cost": report["cost"]["amount"],
        "saved": report["cost"]["reused"],
        "currency": report["cost"]["currency"],
        "seconds": sum(report["seconds"].values()),
        "gains": gains,
    }


def _splits(manifest: Mapping[str, Any], config: str) -> dict[str, int]:
    splits: dict[str, int] = {}
    for file in manifest["files"]:
        if file.get("config") == config:
            splits[file["split"]] = splits.get(file["split"], 0) + file["rows"]
    return splits
