"""Files of the store that nothing names any more: what killed and repeated runs leave behind.

A file is named by a plan (its inputs), by a shard's result and part (its tables, figures and rows), or by a manifest
(the files of a dataset). Files of a plan that a build works on, and files younger than the grace period, are never
listed. Also listed are the leases and the run reports of plans on which no build works.
Leaves out: published datasets, whatever their age; models, reports, logs; the ledger, which compacts itself; and its
damaged segments, which are a person's to look at.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.store import Store
from infra.store.lease import LEASES
from tasks.planning.elsewhere import FOLDER
from tasks.records.manifest import read_manifest
from tasks.records.part import part_path, read_parts, rows_folder
from tasks.records.plan import Plan, load_plan, plan_path
from tasks.records.shard import finished_results
from tasks.reporting.tables import Rows

GRACE_DAYS = 7.0
_DAY_S = 86_400.0
_LIVE_S = _DAY_S  # a holder that has been silent for so long is dead, whatever its clock says

Ages = Mapping[str, tuple[int, float]]  # bytes and seconds since it was written, by path


@dataclass(frozen=True, slots=True)
class UnnamedFile:
    """A file that may be removed: its path, its bytes, and what it is."""

    path: str
    bytes: int
    what: str


def unnamed_files(store: Store, grace_days: float = GRACE_DAYS) -> list[UnnamedFile]:
    """The files that nothing names, older than the grace period, by path.

    Raises StoreError where a plan, a result or a manifest cannot be read: what it names is not known then.
    """
    ages = store.ages()
    live = live_plans(store, ages)
    unnamed = []
    for path, what in sorted(_unnamed(store, ages, live)):
        size, age_s = ages[path]
        if age_s >= grace_days * _DAY_S:
            unnamed.append(UnnamedFile(path, size, what))
    return unnamed


def live_plans(store: Store, ages: Ages) -> set[str]:
    """The plans on which a build works, as their leases say."""
    live = set()
    for path, (_, age_s) in ages.items():
        folder, _, name = path.rpartition("/")
        if folder.startswith(f"{LEASES}/") and age_s < _LIVE_S:
            beat = f"{folder}/{name.partition('.')[0]}.beat"
            if beat not in ages or not store.read(beat).endswith(b"ended"):
                live.add(folder.removeprefix(f"{LEASES}/"))
    return live


def view(files: Sequence[UnnamedFile], removed: bool) -> dict[str, Any]:
    """JSON-ready: number and bytes of the files, in all and by what they are, and the files."""
    kinds: dict[str, dict[str, int]] = {}
    for file in files:
        kind = kinds.setdefault(file.what, {"files": 0, "bytes": 0})
        kind["files"] += 1
        kind["bytes"] += file.bytes
    return {
        "files": len(files),
        "bytes": sum(file.bytes for file in files),
        "removed": removed,
        "kinds": kinds,
        "paths": [file.path for file in files],
    }


def unnamed_rows(unnamed: Mapping[str, Any]) -> Rows:
    """A `view` as a table: files and bytes by what they are."""
    rows = [[what, f"{kind['files']:,}", f"{kind['bytes']:,}"] for what, kind in sorted(unnamed["kinds"].items())]
    total = "removed" if unnamed["removed"] else "would be removed"
    rows.append([total, f"{unnamed['files']:,}", f"{unnamed['bytes']:,}"])
    return ["what nothing names", "files", "bytes"], rows


def _unnamed(store: Store, ages: Ages, live: set[str]) -> Iterator[tuple[str, str]]:
    """Path and kind of every file that nothing names, whatever its age."""
    plan_ids = [path.split("/")[1] for path in ages if path == plan_path(path.split("/")[1] if "/" in path else "")]
    inputs: set[str] = set()
    for plan_id in plan_ids:
        plan = load_plan(store, plan_id)
        inputs.add(plan.drops)
        for shard in plan.shards:
            inputs |= {shard.examples, shard.contexts}
        if plan_id not in live:
            yield from _unnamed_of_plan(store, ages, plan)
    for path in ages:
        folder, _, name = path.rpartition("/")
        top = path.partition("/")[0]
        if name.startswith(".") and name.endswith(".part"):
            yield path, "a write that was killed"
        elif top == FOLDER and not live:
            yield path, "what a killed planning left"
        elif top == ".probe":
            yield path, "a probe of the store"
        elif top == "inputs" and path not in inputs and not live:
            yield path, "an input of no plan"
        elif top == LEASES and folder.removeprefix(f"{LEASES}/") not in live:
            yield path, "a lease of an earlier build"
    if not live:  # a folder without a manifest does not say which plan it is of
        yield from _unnamed_of_datasets(store, ages)


def _unnamed_of_plan(store: Store, ages: Ages, plan: Plan) -> Iterator[tuple[str, str]]:
    """Reports of runs, and what results and parts do not name; of unfinished shards nothing."""
    folder = f"plans/{plan.plan_id}"
    results = finished_results(store, plan.plan_id, len(plan.shards))
    named: set[str] = set()
    finished = set()
    for result, part in zip(results, read_parts(store, results), strict=True):
        finished.add(f"{result.shard:04d}")
        named |= {table.path for table in result.files.values()} | {part_path(result)}
        if part is not None:
            rows = rows_folder(plan.plan_id)
            named |= {part.figures} | {f"{rows}/{file['path']}" for file in part.rows}
    whole = len(finished) == len(plan.shards)
    for path in ages:
        if not path.startswith(f"{folder}/") or path in named or path.endswith(".part"):
            continue
        parts = path.removeprefix(f"{folder}/").split("/")
        if parts[0] == "runs":
            yield path, "a report of an earlier run"
        elif parts[0] == "rows" and whole:
            yield path, "rows of no shard's result"
        elif parts[0] == "shards" and len(parts) == 3 and parts[1] in finished:
            yield path, "a table of no shard's result"
        elif parts[0] == "shards" and ".part-" in path and parts[1].partition(".")[0] in finished:
            yield path, "a part of no shard's result"


def _unnamed_of_datasets(store: Store, ages: Ages) -> Iterator[tuple[str, str]]:
    """Files of datasets that were never published, and files of published ones that their manifest does not name."""
    named: set[str] = set()
    for path in ages:
        if path.startswith("datasets/") and path.endswith("/manifest.json"):
            folder = path.rpartition("/")[0]
            named |= {path} | {f"{folder}/{file['path']}" for file in read_manifest(store, path)["files"]}
    for path in ages:
        is_file_of_version = path.startswith("datasets/") and path.count("/") > 2
        if is_file_of_version and path not in named and not path.endswith(".part"):
            yield path, "a file of no published dataset"
