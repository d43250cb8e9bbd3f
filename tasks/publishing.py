"""Publishing: the shards' tables become one dataset that a reader sees whole or not at all.

`datasets/NAME/VERSION/` gets a Parquet file for each shard, table and split, a summary, plots and the card; then
`manifest.json`, put-if-absent, which names every file by its hash and is the only commit; then `latest.json`
beside the version, a convenience. The version is the fingerprint of the plan, the shards' output hashes, the
dataset's settings and the schema, so an interrupted run ends at the same place with the same bytes. Memory holds
one shard. Leaves out: deleting old versions, and pushing to a hub.
"""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.canonical import canonical
from infra.errors import BalanceError, RecipeError
from infra.recipe import Recipe
from infra.running import progress
from infra.store import Store, table_bytes
from tasks.records import example as nouns
from tasks.records.dataset import EVIDENCE, PAIRS, ShardData, Split, evidence_rows, pair_rows
from tasks.records.example import Answer, Drop, Judgement, Pair
from tasks.records.manifest import (
    PublishedFile,
    commit,
    manifest_head,
    manifests,
    read_manifest,
    standing,
    verify_manifest,
)
from tasks.records.plan import Plan, load_shard
from tasks.records.shard import ShardResult, read_checked, with_paired
from tasks.reporting.dataset_card import dataset_card
from tasks.reporting.plots import dataset_plots
from tasks.reporting.summary import Summary, Tally
from tasks.scoring import parse_scorers, rewards

__all__ = ["Published", "check_balance", "manifests", "publish", "read_manifest", "read_summary", "verify_manifest"]

STAGE = "publish"


@dataclass(frozen=True, slots=True)
class Published:
    """A published dataset: paths in the store, the sha256 of the manifest's bytes, and what it counts."""

    manifest: str
    sha256: str
    path: str  # of the folder, in the store
    folder: str  # the same as a person would paste it
    version: str
    counts: Mapping[str, Any]  # questions, pairs, drops by reason, answers; paired_questions where not as many as pairs
    splits: Mapping[str, int]  # pairs by split

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def publish(plan: Plan, results: Sequence[ShardResult], recipe: Recipe, store: Store) -> Published:
    """Write the dataset of a plan whose shards all have results; the manifest comes last.

    Raises BalanceError when questions are not those with pairs + drops, RecipeError for a recipe that is not the
    plan's, and StoreError when a table has changed or a manifest with other bytes stands in the dataset's place.
    """
    _refuse_another_recipe(plan, recipe)
    ordered = sorted(results, key=lambda result: result.shard)
    counts = check_balance(plan, ordered)
    progress.expect(STAGE, len(ordered))
    split = _split(ordered, recipe, store)
    head = manifest_head(plan, ordered, recipe, counts, split)
    folder = f"datasets/{recipe.dataset.name}/{head['version']}"
    manifest = standing(store, folder, head)
    if manifest is None:
        tally = Tally({scorer.name: scorer.weight for scorer in parse_scorers(recipe)})
        files = list(_write_tables(plan, ordered, recipe, store, folder, split, tally))
        files += _write_papers(plan, recipe, store, folder, head, files, tally.summary())
        manifest = {**head, "files": [file.to_json() for file in files]}
        commit(store, folder, manifest)
    else:
        progress.advance(STAGE, len(ordered))
    store.write(f"datasets/{recipe.dataset.name}/latest.json", canonical(_pointer(folder, manifest)))
    return _published(store, folder, manifest)


def check_balance(plan: Plan, results: Sequence[ShardResult]) -> dict[str, Any]:
    """The counts of the whole plan. Raises BalanceError, with the numbers, when anything is unaccounted for."""
    expected = [each.index for each in plan.shards]
    if (found := [result.shard for result in results]) != expected:
        raise BalanceError(f"plan {plan.plan_id} has the shards {expected}, but there are results of {found}")
    drops = Counter(plan.drop_counts)
    most = plan.recipe["pairing"].get("pairs_per_question", 1)
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
    pairs, paired = (sum(getattr(each, name) for each in results) for name in ("pairs", "paired_questions"))
    if plan.questions != paired + drops.total():
        raise BalanceError(
            f"plan {plan.plan_id}: {plan.questions} questions, but {paired} with pairs + {drops.total()} drops; "
            "nothing is published"
        )
    answers = sum(result.files["answers"].rows for result in results)
    counts = {"questions": plan.questions, "pairs": pairs, "drops": dict(sorted(drops.items())), "answers": answers}
    return with_paired(counts, paired)


def read_summary(store: Store, folder: str) -> Summary:
    """The summary of the dataset in `folder`, a path in the store."""
    return Summary.from_json(json.loads(store.read(f"{folder}/summary.json")))


def load_shard_data(plan: Plan, result: ShardResult, recipe: Recipe, store: Store) -> ShardData:
    """A shard with all its tables. Raises BalanceError when an example is in neither or both of pairs and drops, or
    has the same pair twice."""
    examples, contexts = load_shard(store, plan, result.shard)
    judgements = nouns.from_table(read_checked(store, result.files["judgements"]), Judgement)
    data = ShardData(
        examples=examples,
        contexts=contexts,
        answers=nouns.from_table(read_checked(store, result.files["answers"]), Answer),
        judgements=judgements,
        pairs=nouns.from_table(read_checked(store, result.files["pairs"]), Pair),
        drops=nouns.from_table(read_checked(store, result.files["drops"]), Drop),
        rewards=rewards(judgements, parse_scorers(recipe)),
    )
    paired = {pair.example_id for pair in data.pairs}
    ended = sorted([*paired, *(drop.example_id for drop in data.drops)])
    couples = {(pair.example_id, pair.chosen_index, pair.rejected_index) for pair in data.pairs}
    if ended != sorted(example.example_id for example in examples) or len(couples) < len(data.pairs):
        raise BalanceError(
            f"shard {result.shard} of plan {plan.plan_id}: its {len(examples)} examples are not each in pairs of "
            f"different answers or in one drop ({len(data.pairs)} pairs of {len(paired)} examples, {len(data.drops)} "
            "drops); nothing is published"
        )
    return data


def _refuse_another_recipe(plan: Plan, recipe: Recipe) -> None:
    wanted, given = canonical(dict(plan.recipe)), canonical(recipe.identity())
    if wanted != given:
        old, new = json.loads(wanted), json.loads(given)
        changed = ", ".join(sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)))
        raise RecipeError(
            f"recipe {recipe.name} is not the one of plan {plan.plan_id}: {changed} differ; "
            "plan again, or use the plan's recipe"
        )


def _split(results: Sequence[ShardResult], recipe: Recipe, store: Store) -> Split:
    def context_ids() -> Iterator[str]:
        for result in results:
            table = read_checked(store, result.files["pairs"], ["context_id"])
            yield from table.column("context_id").to_pylist()

    return Split(recipe.seed, recipe.dataset.test_fraction).with_training(context_ids())


def _write_tables(
    plan: Plan,
    results: Sequence[ShardResult],
    recipe: Recipe,
    store: Store,
    folder: str,
    split: Split,
    tally: Tally,
) -> Iterator[PublishedFile]:
    """Write the Parquet files shard by shard, counting each into `tally`; empty tables are left out."""
    early = store.read_table(plan.drops)
    if early.num_rows:
        yield _write_table(store, folder, "drops/plan", early, "drops", "train")
    for result in results:
        shard = load_shard_data(plan, result, recipe, store)
        tally.add(shard)
        name = f"{result.shard:04d}"
        for side, rows in pair_rows(shard, recipe, plan.plan_id, split).items():
            if rows:
                table = pa.Table.from_pylist(rows, schema=PAIRS)
                yield _write_table(store, folder, f"data/{side}/{name}", table, "pairs", side)
        for side, rows in evidence_rows(shard, plan.plan_id, split).items():
            if rows:
                table = pa.Table.from_pylist(rows, schema=EVIDENCE)
                yield _write_table(store, folder, f"evidence/{side}/{name}", table, "evidence", side)
        if shard.drops:
            table = nouns.to_table(shard.drops, nouns.DROP)
            yield _write_table(store, folder, f"drops/{name}", table, "drops", "train")
        progress.advance(STAGE)


def _write_table(store: Store, folder: str, stem: str, table: pa.Table, config: str, split: str) -> PublishedFile:
    data = table_bytes(table)
    path = f"{stem}-{hashlib.sha256(data).hexdigest()[:16]}.parquet"
    return replace(_write(store, folder, path, data), rows=table.num_rows, config=config, split=split)


def _write_papers(
    plan: Plan,
    recipe: Recipe,
    store: Store,
    folder: str,
    head: Mapping[str, Any],
    files: Sequence[PublishedFile],
    summary: Summary,
) -> Iterator[PublishedFile]:
    """Write the summary, the plots and the card."""
    yield _write(store, folder, "summary.json", canonical(summary.to_json()))
    plots = dataset_plots(summary)
    for name, image in plots.items():
        yield _write(store, folder, f"plots/{name}.png", image)
    tables = [file.to_json() for file in files]
    card = dataset_card(recipe, {**head, "files": tables}, summary, list(plots), _sample(store, folder, files))
    yield _write(store, folder, "README.md", card.encode("utf-8", "replace"))


def _sample(store: Store, folder: str, files: Sequence[PublishedFile]) -> dict[str, Any] | None:
    """The first training pair, without its prompt, for the card."""
    for file in files:
        if (file.config, file.split) == ("pairs", "train"):
            columns = ["question", "chosen", "rejected", "chosen_reward", "rejected_reward"]
            parquet = pq.ParquetFile(io.BytesIO(store.read(f"{folder}/{file.path}")))
            return dict(next(parquet.iter_batches(1, columns=columns)).to_pylist()[0])
    return None


def _write(store: Store, folder: str, path: str, data: bytes) -> PublishedFile:
    store.write(f"{folder}/{path}", data)
    return PublishedFile(path, hashlib.sha256(data).hexdigest(), len(data))


def _pointer(folder: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    sha256 = hashlib.sha256(canonical(dict(manifest))).hexdigest()
    return {"version": manifest["version"], "manifest": f"{folder}/manifest.json", "sha256": sha256}


def _published(store: Store, folder: str, manifest: Mapping[str, Any]) -> Published:
    splits: Counter[str] = Counter()
    for each in manifest["files"]:
        if each.get("config") == "pairs":
            splits[each["split"]] += each["rows"]
    return Published(
        manifest=f"{folder}/manifest.json",
        sha256=hashlib.sha256(store.read(f"{folder}/manifest.json")).hexdigest(),
        path=folder,
        folder=store.show(folder),
        version=manifest["version"],
        counts=manifest["counts"],
        splits=dict(splits),
    )
