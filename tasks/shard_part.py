"""Writing the part of a finished shard: its final rows, its figures, its share of the yield and of the spending."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from infra.errors import BalanceError
from infra.recipe import Recipe
from infra.store import Store
from tasks.published_rows import evidence_rows, further_columns, pair_rows
from tasks.records import example as records
from tasks.records.dataset import EVIDENCE, ShardData, Split, pair_table, published_schema
from tasks.records.example import Answer, Context, Drop, Example, Judgement, Pair
from tasks.records.manifest import ManifestFile
from tasks.records.part import ShardPart, Spending, rows_folder, write_figures, write_part
from tasks.records.plan import Plan
from tasks.records.product import PAIRS as PAIRS_OF_ANSWERS
from tasks.records.product import QUESTIONS, Product
from tasks.records.shard import ShardResult
from tasks.records.table import StoredTable
from tasks.reporting.shard_figures import shard_figures
from tasks.sampling import kind_of
from tasks.scoring import parse_scorers, rewards
from tasks.yield_gate import run_yield


def write_shard_part(
    plan: Plan,
    result: ShardResult,
    recipe: Recipe,
    store: Store,
    examples: list[Example],
    contexts: Mapping[str, Context],
) -> ShardPart:
    """Write the part of a shard whose tables are in the store. The same shard gives the same files.

    Raises as `read_shard_data`.
    """
    shard = read_shard_data(result, recipe, store, examples, contexts)
    split = Split(recipe.seed, recipe.dataset.test_fraction)
    figures, sha256 = write_figures(store, plan.plan_id, result.shard, shard_figures(shard, scorer_weights(recipe)))
    spending = spending_of(shard.answers)
    folder, with_reasoning = rows_folder(plan.plan_id), result.reasoning_tokens is not None
    part = ShardPart(
        rows=write_rows(store, folder, result.shard, shard, recipe, plan, split, with_reasoning),
        with_reasoning=with_reasoning,
        split=split,
        last_context=split.last(pair.context_id for pair in shard.pairs),
        outcome=run_yield(store, [result]).state(),
        spending=spending.by_kind,
        without_usage=spending.without_usage,
        figures=figures,
        figures_sha256=sha256,
    )
    write_part(store, result, part)
    return part


def write_rows(
    store: Store,
    folder: str,
    index: int,
    shard: ShardData,
    recipe: Recipe,
    plan: Plan,
    split: Split,
    with_reasoning: bool,
) -> list[ManifestFile]:
    """Write the Parquet files of a shard: pairs and evidence by split, and drops; empty tables are left out.

    `folder` is the dataset's, or the plan's for rows; paths are relative to it. `with_reasoning`: the tables have
    columns for reasoning.
    """
    files: list[ManifestFile] = []
    columns = further_columns(recipe, plan)
    for side, pairs in pair_rows(shard, recipe, plan.plan_id, split, plan.special_tokens).items():
        if pairs:
            table = pair_table(pairs, with_reasoning, columns)
            files.append(write_table(store, folder, f"data/{side}/{index:04d}", table, "pairs", side))
    for side, answers in evidence_rows(shard, plan.plan_id, split).items():
        if answers:
            table = pa.Table.from_pylist(answers, schema=published_schema(EVIDENCE, with_reasoning, columns))
            files.append(write_table(store, folder, f"evidence/{side}/{index:04d}", table, "evidence", side))
    if shard.drops:
        table = records.to_table(shard.drops, records.DROP)
        files.append(write_table(store, folder, f"drops/{index:04d}", table, "drops", "train"))
    return files


def write_table(store: Store, folder: str, stem: str, table: pa.Table, config: str, split: str) -> ManifestFile:
    """Write a table of the dataset to `FOLDER/STEM-HASH.parquet`."""
    stored = StoredTable.put(store, f"{folder}/{stem}", table)
    return {
        "path": stored.path.removeprefix(f"{folder}/"),
        "sha256": stored.sha256,
        "bytes": store.size(stored.path),
        "rows": stored.rows,
        "config": config,
        "split": split,
    }


def read_shard_data(
    result: ShardResult, recipe: Recipe, store: Store, examples: list[Example], contexts: Mapping[str, Context]
) -> ShardData:
    """A finished shard with all its tables.

    Raises BalanceError when an example is in neither or both of pairs and drops, or has the same pair twice, and
    StoreError for a table that is missing or was changed.
    """
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
    _check_balance(result, shard)
    return shard


def _check_balance(result: ShardResult, shard: ShardData) -> None:
    """Raises BalanceError unless every example has different pairs or one drop."""
    paired, couples = set(), set()
    for pair in shard.pairs:
        paired.add(pair.example_id)
        couples.add((pair.example_id, pair.chosen_index, pair.rejected_index))
    dropped = [drop.example_id for drop in shard.drops]
    planned = [example.example_id for example in shard.examples]
    if sorted([*paired, *dropped]) != sorted(planned) or len(couples) < len(shard.pairs):
        raise BalanceError(
            f"shard {result.shard} of plan {result.plan_id}: its {len(planned)} examples are not each in pairs of "
            f"different answers or in one drop ({len(shard.pairs)} pairs of {len(paired)} examples, {len(dropped)} "
            "drops); nothing is published"
        )


def scorer_weights(recipe: Recipe) -> dict[str, float]:
    """Each scorer's weight in the reward."""
    return {scorer.name: scorer.weight for scorer in parse_scorers(recipe)}


@dataclass(frozen=True, slots=True)
class AnswerSpending:
    """What the calls of answers have cost by kind, and the keys of those whose server has not said it."""

    by_kind: Mapping[str, Spending]
    without_usage: Sequence[str]


def spending_of(answers: Iterable[Answer], product: Product = PAIRS_OF_ANSWERS) -> AnswerSpending:
    """What the calls of these answers have cost; a call that gave several counts once.

    The answers of a shard that makes questions say the kind of their call.
    """
    by_kind: dict[str, Spending] = {}
    keys: set[str] = set()
    without_usage: dict[str, None] = {}  # an ordered set
    for answer in answers:
        if not (answer.prompt_tokens and answer.completion_tokens):
            if answer.key:
                without_usage[answer.key] = None
        elif answer.key and answer.key not in keys:
            keys.add(answer.key)
            spent = Spending(1, answer.prompt_tokens, answer.completion_tokens)
            kind = answer.strategy if product == QUESTIONS else kind_of(answer)
            by_kind[kind] = by_kind.get(kind, Spending()).plus(spent)
    return AnswerSpending(by_kind, list(without_usage))
