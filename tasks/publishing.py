"""Publishing: the shards' tables become one dataset that a reader sees whole or not at all.

`datasets/NAME/VERSION/` gets a Parquet file for each shard, table and split (`write_part`), a summary, plots and the
card; then `manifest.json`, put-if-absent, which names every file by its hash and alone makes the dataset visible;
then `latest.json` beside the version, for convenience. The version is the fingerprint of the plan, the shards' output
hashes, the dataset's settings and the schema, so an interrupted run ends at the same place with the same bytes.
Memory holds one shard. Leaves out: deleting old versions, and pushing to a hub.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa

from infra.canonical import canonical_json
from infra.errors import BalanceError, RecipeError
from infra.recipe import Recipe
from infra.running import progress
from infra.store import Store
from tasks.published_rows import evidence_rows, pair_rows
from tasks.records import example as records
from tasks.records.dataset import EVIDENCE, PAIRS, ShardData, Split, published_schema
from tasks.records.example import Answer, Drop, Judgement, Pair
from tasks.records.manifest import ManifestFile, commit, finished_manifest, manifest_head, read_manifest
from tasks.records.plan import Plan, load_examples, load_shard
from tasks.records.shard import ShardResult, with_paired
from tasks.records.table import BUILD_AGAIN, StoredTable
from tasks.reporting.dataset_card import dataset_card
from tasks.reporting.plots import dataset_plots
from tasks.reporting.summary import Summary, SummaryTally
from tasks.scoring import parse_scorers, rewards

STAGE = "publish"


@dataclass(frozen=True, slots=True)
class Published:
    """A published dataset: paths in the store, the sha256 of the manifest's bytes, and its counts."""

    manifest: str
    sha256: str
    path: str  # of the folder, in the store
    folder: str  # the same as a person would paste it
    version: str
    counts: Mapping[str, Any]  # questions, pairs, drops by reason, answers; paired_questions where not as many as pairs
    splits: Mapping[str, int]  # pairs by split
    smaller: str = ""  # a line, where `latest.json` has moved from a dataset with more pairs

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class DatasetDraft:
    """A dataset whose place and head are decided, before its files are written.

    `manifest` is there when the dataset was published before and all its files are in the store.
    """

    folder: str  # in the store
    split: Split
    head: Mapping[str, Any]  # the manifest without its files
    manifest: Mapping[str, Any] | None
    with_reasoning: bool  # an answer of the dataset has reasoning, so its tables have columns for it


def publish(plan: Plan, results: Sequence[ShardResult], recipe: Recipe, store: Store) -> Published:
    """Write the dataset of a plan whose shards all have results: draft, the part of each shard, the rest.

    Raises as `draft_dataset`, `write_part` and `finish_dataset`. Leaves out the yield gate, which a build has
    (`publish_dataset`).
    """
    draft = draft_dataset(plan, results, recipe, store)
    parts: dict[int, list[ManifestFile]] = {}
    if draft.manifest is None:
        for result in results:
            parts[result.shard] = write_part(plan, result, recipe, store, draft)
    return finish_dataset(plan, results, recipe, store, draft, parts)


def draft_dataset(plan: Plan, results: Sequence[ShardResult], recipe: Recipe, store: Store) -> DatasetDraft:
    """Decide where the dataset goes and what its manifest says, all but the files. Writes nothing.

    Raises BalanceError when questions are not those with pairs + drops, RecipeError for a recipe that is not the
    plan's, and StoreError when a table has changed or a manifest with other bytes stands in the dataset's place.
    """
    _check_recipe(plan, recipe)
    ordered = _by_shard(results)
    counts = check_balance(plan, ordered)
    progress.expect(STAGE, len(ordered))
    split = _split(ordered, recipe, store)
    head = manifest_head(plan, ordered, recipe, counts, split)
    folder = f"datasets/{recipe.dataset.name}/{head['version']}"
    manifest = finished_manifest(store, folder, head)
    if manifest is not None:
        progress.advance(STAGE, len(ordered))
    return DatasetDraft(folder, split, head, manifest, any(result.reasoning_tokens is not None for result in ordered))


def write_part(
    plan: Plan, result: ShardResult, recipe: Recipe, store: Store, draft: DatasetDraft
) -> list[ManifestFile]:
    """Write the Parquet files of one shard: pairs and evidence by split, and drops; empty tables are left out.

    The same shard gives the same files, so a part may be written again.
    Raises BalanceError when an example of the shard is not in pairs or in one drop, StoreError for a changed table.
    """
    shard = load_shard_data(plan, result, recipe, store)
    files: list[ManifestFile] = []
    name = f"{result.shard:04d}"
    folder, split = draft.folder, draft.split
    for side, pairs in pair_rows(shard, recipe, plan.plan_id, split, plan.special_tokens).items():
        if pairs:
            table = pa.Table.from_pylist(pairs, schema=published_schema(PAIRS, draft.with_reasoning))
            files.append(_write_table(store, folder, f"data/{side}/{name}", table, "pairs", side))
    for side, answers in evidence_rows(shard, plan.plan_id, split).items():
        if answers:
            table = pa.Table.from_pylist(answers, schema=published_schema(EVIDENCE, draft.with_reasoning))
            files.append(_write_table(store, folder, f"evidence/{side}/{name}", table, "evidence", side))
    if shard.drops:
        table = records.to_table(shard.drops, records.DROP)
        files.append(_write_table(store, folder, f"drops/{name}", table, "drops", "train"))
    progress.advance(STAGE)
    return files


def finish_dataset(
    plan: Plan,
    results: Sequence[ShardResult],
    recipe: Recipe,
    store: Store,
    draft: DatasetDraft,
    parts: Mapping[int, Sequence[ManifestFile]],
) -> Published:
    """Write what belongs to the whole dataset, then the manifest, which makes it visible, then `latest.json`.

    `parts` are what `write_part` returned, by shard; none are needed where the draft has a manifest. Raises
    StoreError when a table has changed or a manifest with other bytes stands in the dataset's place.
    """
    manifest = draft.manifest
    if manifest is None:
        files: list[ManifestFile] = []
        planned_drops = store.read_table(plan.drops)
        if planned_drops.num_rows:
            files.append(_write_table(store, draft.folder, "drops/plan", planned_drops, "drops", "train"))
        for result in _by_shard(results):
            files.extend(parts[result.shard])
        summary = _summary(plan, results, recipe, store)
        files += _write_papers(recipe, store, draft, files, summary)
        manifest = {**draft.head, "files": files}
        commit(store, draft.folder, manifest)
    smaller = move_latest(store, recipe.dataset.name, draft.folder, manifest)
    return replace(_published(store, draft.folder, manifest), smaller=smaller)


def move_latest(store: Store, name: str, folder: str, manifest: Mapping[str, Any]) -> str:
    """Point `latest.json` of the dataset `name` at a manifest.

    Returns a line that says by how much the dataset is smaller than the one it pointed at; empty where it is not.
    """
    path = f"datasets/{name}/latest.json"
    smaller = ""
    if store.exists(path):
        before = json.loads(store.read(path))
        if before["version"] != manifest["version"] and store.exists(before["manifest"]):
            smaller = _smaller(name, read_manifest(store, before["manifest"]), manifest)
    store.write(path, canonical_json(_pointer(folder, manifest)))
    return smaller


def _smaller(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The line about a dataset with fewer pairs than the one before it; empty where it has as many."""
    pairs_before, pairs = before["counts"]["pairs"], now["counts"]["pairs"]
    if pairs >= pairs_before:
        return ""
    return (
        f"datasets/{name}/latest.json moves to a smaller dataset: {pairs:,} pairs of {now['counts']['questions']:,} "
        f"questions ({now['version']}), after {pairs_before:,} of {before['counts']['questions']:,} "
        f"({before['version']}): {100 * (pairs_before - pairs) / pairs_before:.0f}% fewer"
    )


def check_balance(plan: Plan, results: Sequence[ShardResult]) -> dict[str, Any]:
    """The counts of the whole plan. Raises BalanceError, with the numbers, when anything is unaccounted for."""
    planned_shards = [shard.index for shard in plan.shards]
    result_shards = [result.shard for result in results]
    if result_shards != planned_shards:
        raise BalanceError(
            f"plan {plan.plan_id} has the shards {planned_shards}, but there are results of {result_shards}"
        )
    drops = Counter(plan.drop_counts)
    most = plan.recipe["pairing"].get("pairs_per_question", 1)
    pairs = all_paired = answers = 0
    for planned, result in zip(plan.shards, results, strict=True):
        dropped, paired = sum(result.drops.values()), result.paired_questions
        whole = planned.questions == result.questions == paired + dropped
        if not whole or not paired <= result.pairs <= most * paired or result.plan_id != plan.plan_id:
            raise BalanceError(
                f"shard {result.shard} of plan {plan.plan_id}: {planned.questions} questions were planned and "
                f"{result.questions} worked on, but {result.pairs} pairs of {paired} questions, {most} each at most, "
                f"+ {dropped} drops came out; nothing is published"
            )
        drops.update(result.drops)
        pairs += result.pairs
        all_paired += paired
        answers += result.files["answers"].rows
    if plan.questions != all_paired + drops.total():
        raise BalanceError(
            f"plan {plan.plan_id}: {plan.questions} questions, but {all_paired} with pairs + {drops.total()} drops; "
            "nothing is published"
        )
    counts = {"questions": plan.questions, "pairs": pairs, "drops": dict(sorted(drops.items())), "answers": answers}
    return with_paired(counts, all_paired)


def read_summary(store: Store, folder: str) -> Summary:
    """The summary of the dataset in `folder`, a path in the store."""
    return Summary.from_json(json.loads(store.read(f"{folder}/summary.json")))


def load_shard_data(
    plan: Plan, result: ShardResult, recipe: Recipe, store: Store, *, with_contexts: bool = True
) -> ShardData:
    """A shard with all its tables; its contexts are left empty on request, because they are long.

    Raises BalanceError when an example is in neither or both of pairs and drops, or has the same pair twice, and
    StoreError for a table that is missing or was changed.
    """
    if with_contexts:
        examples, contexts = load_shard(store, plan, result.shard)
    else:
        examples, contexts = load_examples(store, plan, result.shard), {}
    judgements = records.from_table(result.files["judgements"].read_checked(store), Judgement)
    shard = ShardData(
        examples=examples,
        contexts=contexts,
        answers=records.from_table(result.files["answers"].read_checked(store), Answer),
        judgements=judgements,
        pairs=records.from_table(result.files["pairs"].read_checked(store), Pair),
        drops=records.from_table(result.files["drops"].read_checked(store), Drop),
        rewards=rewards(judgements, parse_scorers(recipe)),
    )
    _check_shard(plan, result.shard, shard)
    return shard


def _check_shard(plan: Plan, index: int, shard: ShardData) -> None:
    """Raises BalanceError unless every example has different pairs or one drop."""
    paired, couples = set(), set()
    for pair in shard.pairs:
        paired.add(pair.example_id)
        couples.add((pair.example_id, pair.chosen_index, pair.rejected_index))
    dropped = [drop.example_id for drop in shard.drops]
    planned = [example.example_id for example in shard.examples]
    if sorted([*paired, *dropped]) != sorted(planned) or len(couples) < len(shard.pairs):
        raise BalanceError(
            f"shard {index} of plan {plan.plan_id}: its {len(planned)} examples are not each in pairs of "
            f"different answers or in one drop ({len(shard.pairs)} pairs of {len(paired)} examples, {len(dropped)} "
            "drops); nothing is published"
        )


def _by_shard(results: Sequence[ShardResult]) -> list[ShardResult]:
    return sorted(results, key=lambda result: result.shard)


def _check_recipe(plan: Plan, recipe: Recipe) -> None:
    """Raises RecipeError, naming the keys that differ, for a recipe that is not the plan's."""
    planned, current = canonical_json(dict(plan.recipe)), canonical_json(recipe.identity())
    if planned != current:
        old, new = json.loads(planned), json.loads(current)
        changed = []
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                changed.append(key)
        raise RecipeError(
            f"recipe {recipe.name} is not the one of plan {plan.plan_id}: {', '.join(changed)} differ; "
            "plan again, or use the plan's recipe"
        )


def _split(results: Sequence[ShardResult], recipe: Recipe, store: Store) -> Split:
    """The split of the dataset; it looks at every context that has a pair."""

    def context_ids() -> Iterator[str]:
        for result in results:
            table = result.files["pairs"].read_checked(store, ["context_id"])
            yield from table.column("context_id").to_pylist()

    return Split(recipe.seed, recipe.dataset.test_fraction).with_training(context_ids())


def _summary(plan: Plan, results: Sequence[ShardResult], recipe: Recipe, store: Store) -> Summary:
    """The figures of all shards, read in their order: sums of floats depend on it."""
    tally = SummaryTally({scorer.name: scorer.weight for scorer in parse_scorers(recipe)})
    for result in _by_shard(results):
        tally.add(load_shard_data(plan, result, recipe, store, with_contexts=False))
    return tally.summary()


def _write_table(store: Store, folder: str, stem: str, table: pa.Table, config: str, split: str) -> ManifestFile:
    stored = StoredTable.put(store, f"{folder}/{stem}", table)
    return {
        "path": stored.path.removeprefix(f"{folder}/"),
        "sha256": stored.sha256,
        "bytes": store.size(stored.path),
        "rows": stored.rows,
        "config": config,
        "split": split,
    }


def _write_papers(
    recipe: Recipe, store: Store, draft: DatasetDraft, tables: Sequence[ManifestFile], summary: Summary
) -> list[ManifestFile]:
    """Write the summary, the plots and the card."""
    papers = [_write(store, draft.folder, "summary.json", canonical_json(summary.to_json()))]
    plots = dataset_plots(summary)
    for name, image in plots.items():
        papers.append(_write(store, draft.folder, f"plots/{name}.png", image))
    manifest = {**draft.head, "files": tables}
    sample = _sample_pair(store, draft.folder, tables)
    card = dataset_card(recipe, manifest, summary, list(plots), sample, draft.with_reasoning)
    papers.append(_write(store, draft.folder, "README.md", card.encode("utf-8", "replace")))
    return papers


def _sample_pair(store: Store, folder: str, files: Sequence[ManifestFile]) -> dict[str, Any] | None:
    """The first training pair, without its prompt, for the card."""
    for file in files:
        if (file.get("config"), file.get("split")) == ("pairs", "train"):
            table = StoredTable(f"{folder}/{file['path']}", file["sha256"], file["rows"])
            columns = ["question", "chosen", "rejected", "chosen_reward", "rejected_reward"]
            pair: dict[str, Any] = table.read_checked(store, columns, remedy=BUILD_AGAIN).slice(0, 1).to_pylist()[0]
            return pair
    return None


def _write(store: Store, folder: str, path: str, data: bytes) -> ManifestFile:
    store.write(f"{folder}/{path}", data)
    return {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _pointer(folder: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    sha256 = hashlib.sha256(canonical_json(dict(manifest))).hexdigest()
    return {"version": manifest["version"], "manifest": f"{folder}/manifest.json", "sha256": sha256}


def _published(store: Store, folder: str, manifest: Mapping[str, Any]) -> Published:
    splits: Counter[str] = Counter()
    for file in manifest["files"]:
        if file.get("config") == "pairs":
            splits[file["split"]] += file["rows"]
    return Published(
        manifest=f"{folder}/manifest.json",
        sha256=hashlib.sha256(store.read(f"{folder}/manifest.json")).hexdigest(),
        path=folder,
        folder=store.place(folder),
        version=manifest["version"],
        counts=manifest["counts"],
        splits=dict(splits),
    )
