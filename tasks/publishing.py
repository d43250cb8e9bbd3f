"""Publishing: the shards' tables become one dataset that a reader sees whole or not at all.

`datasets/NAME/VERSION/` gets a Parquet file for each shard, table and split, a summary, plots and the card; then
`manifest.json`, put-if-absent, which names every file by its hash and alone makes the dataset visible; then
`latest.json` beside the version, for convenience. The version is the fingerprint of the plan, the shards' output
hashes, the dataset's settings and the schema, so an interrupted run ends at the same place with the same bytes.

A shard has written its final rows and its figures itself (`ShardPart`): its files get their second place here, and its
figures are added up, without a look at the rows. The sizes of the files are checked; their bytes were hashed when they
were written, and readers hash them. A shard without such a part is read from its tables.
Memory holds one shard. Leaves out: deleting old versions, and pushing to a hub.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from infra.canonical import canonical_json
from infra.errors import BalanceError, RecipeError, StoreError
from infra.recipe import Recipe
from infra.running import progress
from infra.store import Store
from tasks.asking.duplicates import repeated_questions, without_repeats
from tasks.asking.publishing import row_schema, write_question_papers, write_questions
from tasks.records.dataset import ShardData, Split
from tasks.records.example import Drop
from tasks.records.manifest import ManifestFile, commit, finished_manifest, manifest_head, read_manifest
from tasks.records.part import ShardPart, read_figures, read_parts, rows_folder
from tasks.records.plan import Plan, load_examples, load_shard
from tasks.records.product import PAIRS, QUESTIONS, product_of_counts
from tasks.records.shard import ShardResult, with_paired
from tasks.records.table import BUILD_AGAIN, StoredTable
from tasks.reporting.dataset_card import dataset_card, reads_folders
from tasks.reporting.plots import dataset_plots
from tasks.reporting.summary import Summary, SummaryTally
from tasks.shard_part import read_shard_data, scorer_weights, write_rows, write_table

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
    parts: Mapping[int, ShardPart]  # by shard, of those that have one
    ready: frozenset[int]  # shards whose final rows are in the store, by this split and with these columns
    repeats: Mapping[str, Drop] = field(default_factory=dict)  # by example, of questions that repeat another
    with_tools: bool = False  # prompts have tool calls


def publish(plan: Plan, results: Sequence[ShardResult], recipe: Recipe, store: Store) -> Published:
    """Write the dataset of a plan whose shards all have results: draft, the rows of each shard, the rest.

    Raises as `draft_dataset`, `write_shard` and `finish_dataset`. Leaves out the yield gate, which a build has
    (`publish_dataset`).
    """
    draft = draft_dataset(plan, results, recipe, store)
    files: dict[int, list[ManifestFile]] = {}
    if draft.manifest is None:
        for result in results:
            if result.shard not in draft.ready:
                files[result.shard] = write_shard(plan, result, recipe, store, draft)
    return finish_dataset(plan, results, recipe, store, draft, files)


def parts_of(store: Store, results: Sequence[ShardResult]) -> dict[int, ShardPart]:
    """The parts of these results by shard, of those that have one."""
    parts = {}
    for result, part in zip(results, read_parts(store, results), strict=True):
        if part is not None:
            parts[result.shard] = part
    return parts


def draft_dataset(
    plan: Plan,
    results: Sequence[ShardResult],
    recipe: Recipe,
    store: Store,
    parts: Mapping[int, ShardPart] | None = None,
) -> DatasetDraft:
    """Decide where the dataset goes and what its manifest says, all but the files. Writes nothing.

    `parts` are those of the results, where they have been read. Raises BalanceError when questions are not those with
    pairs + drops, RecipeError for a recipe that is not the plan's, and StoreError when a table has changed or a
    manifest with other bytes stands in the dataset's place.
    """
    _check_recipe(plan, recipe)
    ordered = _by_shard(results)
    counts = check_balance(plan, ordered)
    repeats = repeated_questions(ordered, recipe, store) if plan.product == QUESTIONS else {}
    if repeats:
        counts = without_repeats(counts, repeats.values())
    progress.expect(STAGE, len(ordered))
    if parts is None:
        parts = parts_of(store, ordered)
    split = _split(ordered, parts, recipe, store)
    head = manifest_head(plan, ordered, recipe, counts, split)
    folder = f"datasets/{recipe.dataset.name}/{head['version']}"
    manifest = finished_manifest(store, folder, head)
    if manifest is not None:
        progress.advance(STAGE, len(ordered))
    with_reasoning = any(result.reasoning_tokens is not None for result in ordered)
    ready = _ready(store, plan.plan_id, parts, split, with_reasoning) if manifest is None else frozenset()
    return DatasetDraft(folder, split, head, manifest, with_reasoning, parts, ready, repeats, plan.has_tool_calls)


def write_shard(
    plan: Plan, result: ShardResult, recipe: Recipe, store: Store, draft: DatasetDraft
) -> list[ManifestFile]:
    """Write the rows of one shard, from its tables, to the dataset. The same shard gives the same files.

    Raises BalanceError when an example of the shard is not in pairs or in one drop, StoreError for a changed table.
    """
    if plan.product == QUESTIONS:
        examples, contexts = load_shard(store, plan, result.shard)
        own = (recipe, draft.split, draft.repeats)
        files = write_questions(store, draft.folder, result, examples, contexts, *own, schema=row_schema(plan))
    else:
        shard = load_shard_data(plan, result, recipe, store)
        files = write_rows(store, draft.folder, result.shard, shard, recipe, plan, draft.split, draft.with_reasoning)
    progress.advance(STAGE)
    return files


def finish_dataset(
    plan: Plan,
    results: Sequence[ShardResult],
    recipe: Recipe,
    store: Store,
    draft: DatasetDraft,
    written: Mapping[int, Sequence[ManifestFile]],
) -> Published:
    """Write what belongs to the whole dataset, then the manifest, which makes it visible, then `latest.json`.

    `written` are the files that `write_shard` returned, by shard, of shards that were not ready; none are needed where
    the draft has a manifest. Raises StoreError when a table has changed or a manifest with other bytes stands in the
    dataset's place.
    """
    manifest = draft.manifest
    if manifest is None:
        files: list[ManifestFile] = []
        planned_drops = store.read_table(plan.drops)
        if planned_drops.num_rows:
            files.append(write_table(store, draft.folder, "drops/plan", planned_drops, "drops", "train"))
        for result in _by_shard(results):
            rows = written[result.shard] if result.shard in written else draft.parts[result.shard].rows
            files.extend(rows)
        _place_rows(store, plan.plan_id, draft, written)
        if plan.product == QUESTIONS:
            papers = write_question_papers(_by_shard(results), recipe, store, draft.folder, draft.head, files)
        else:
            summary = _summary(plan, results, recipe, store, draft.parts)
            papers = _write_papers(recipe, store, draft, files, summary)
        manifest = {**draft.head, "files": [*files, *papers]}
        if reads_folders(files):
            _refuse_strays(store, draft.folder, files)
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
    product = product_of_counts(now["counts"])
    if product != product_of_counts(before["counts"]):
        return ""
    pairs_before, pairs = product.made(before["counts"]), product.made(now["counts"])
    if pairs >= pairs_before:
        return ""
    return (
        f"datasets/{name}/latest.json moves to a smaller dataset: {pairs:,} {product.name} of "
        f"{now['counts'][product.planned]:,} {product.planned} ({now['version']}), after {pairs_before:,} of "
        f"{before['counts'][product.planned]:,} "
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
    most = plan.recipe["pairing"].get("pairs_per_question", 1) if plan.product == PAIRS else 1
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
    product = plan.product
    counts = {product.planned: plan.questions, product.name: pairs, "drops": dict(sorted(drops.items()))}
    return (
        with_paired({**counts, "answers": answers}, all_paired) if product == PAIRS else {**counts, "answers": answers}
    )


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
    return read_shard_data(result, recipe, store, examples, contexts)


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


def _split(results: Sequence[ShardResult], parts: Mapping[int, ShardPart], recipe: Recipe, store: Store) -> Split:
    """The split of the dataset; every context that has a pair counts."""
    split = Split(recipe.seed, recipe.dataset.test_fraction)

    def context_ids() -> Iterator[str]:
        for result in results:
            part = parts.get(result.shard)
            if part is None or part.split.seed != split.seed:
                table = result.files[result.product.name].read_checked(store, ["context_id"])
                yield from table.column("context_id").to_pylist()
            elif part.last_context is not None:
                yield part.last_context

    return split.with_training(context_ids())


def _ready(
    store: Store, plan_id: str, parts: Mapping[int, ShardPart], split: Split, with_reasoning: bool
) -> frozenset[int]:
    """The shards whose files of final rows are there in their size, by this split and with these columns."""
    folder = rows_folder(plan_id)
    sizes = store.sizes(folder) if parts else {}
    ready = set()
    for index, part in parts.items():
        whole = all(sizes.get(f"{folder}/{file['path']}") == file["bytes"] for file in part.rows)
        if whole and (part.split, part.with_reasoning) == (split, with_reasoning):
            ready.add(index)
    return frozenset(ready)


def _place_rows(store: Store, plan_id: str, draft: DatasetDraft, written: Mapping[int, Sequence[ManifestFile]]) -> None:
    """Give the rows that shards have written their place in the dataset, unless an earlier run did."""
    there = store.sizes(draft.folder)
    targets = {}
    for index in sorted(draft.ready - written.keys()):
        for file in draft.parts[index].rows:
            target = f"{draft.folder}/{file['path']}"
            if there.get(target) != file["bytes"]:
                targets[f"{rows_folder(plan_id)}/{file['path']}"] = target
    store.copy(targets)
    progress.advance(STAGE, len(draft.ready - written.keys()))


def _refuse_strays(store: Store, folder: str, files: Sequence[ManifestFile]) -> None:
    """Raises StoreError where a folder that the card names whole has a file that is not of the dataset."""
    paths = {f"{folder}/{file['path']}" for file in files}
    for config in ("data", "evidence", "drops"):
        for path in store.list(f"{folder}/{config}"):
            if path not in paths:
                raise StoreError(
                    f"{store.place(path)}: not a file of this dataset; it was left by an earlier run with other "
                    f"libraries, and readers of the folder would take it for one: remove {store.place(folder)} and "
                    "publish again"
                )


def _summary(
    plan: Plan, results: Sequence[ShardResult], recipe: Recipe, store: Store, parts: Mapping[int, ShardPart]
) -> Summary:
    """The figures of all shards, in their order: sums of floats depend on it."""
    tally = SummaryTally(scorer_weights(recipe))
    ordered = _by_shard(results)
    figures_of_parts = read_figures(store, [parts[result.shard] for result in ordered if result.shard in parts])
    for result in ordered:
        figures = next(figures_of_parts) if result.shard in parts else None
        if figures is None:
            tally.add(load_shard_data(plan, result, recipe, store, with_contexts=False))
        else:
            tally.merge(figures)
    return tally.summary()


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
    card = dataset_card(recipe, manifest, summary, list(plots), sample, draft.with_reasoning, draft.with_tools)
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
    product = product_of_counts(manifest["counts"])
    for file in manifest["files"]:
        if file.get("config") == product.name:
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
