"""Planning: the questions of a recipe, checked, with their contexts, in deterministic shards, before any call.

The source is streamed. Each shard becomes two tables under `inputs/`, named by their content; `plan.json`
comes last, put-if-absent, and names them. The plan's id is the hash of what it says, so the same input and
recipe give the same id, the same names and the same bytes in any process. A shard holds at most
`execution.shard_size` questions in the source's order, fewer when their contexts pass SHARD_CHARACTERS, and
those of one context stand together. Memory holds one shard, the ids and the drops.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import get_args

import pyarrow as pa

from infra.canonical import canonical, fingerprint
from infra.errors import BalanceError, InputError
from infra.models.tokens import has_chat_template, load_tokenizer
from infra.recipe import Language, Recipe
from infra.running import progress
from infra.store import Store, table_bytes
from tasks.planning.contexts import Built, build_examples
from tasks.planning.distractors import gather_pool
from tasks.planning.estimating import estimate
from tasks.planning.estimating_nouns import Estimate
from tasks.prompts import load_prompt
from tasks.records import example as nouns
from tasks.records.example import Drop
from tasks.records.plan import Plan, PlannedShard, load_plan, load_shard, plan_path, resolve_plan
from tasks.sampling import sample_prompt_text
from tasks.scoring import check_scorers, known_scorers

__all__ = ["Estimate", "Plan", "PlannedShard", "estimate", "load_plan", "load_shard", "make_plan", "resolve_plan"]

SHARD_CHARACTERS = 64_000_000  # of contexts in one shard
_CONTEXT_ROWS = 16  # rows per row group


def make_plan(recipe: Recipe, store: Store) -> Plan:
    """Read every question, build every context, write the shards and the plan. No call is made.

    Raises InputError naming the fault when the input cannot be read or no question is left, RecipeError and
    PrerequisiteError for a tokenizer, format or strategy that is not there, StoreError for the store.
    """
    judge_prompts = _judge_prompt_names(recipe)
    sample_prompt_text(recipe.sampling.strategy, recipe.questions.language)
    tokenizer = load_tokenizer(recipe.policy.tokenizer, recipe.policy.trust_remote_code)
    pool = gather_pool(recipe, recipe.questions, tokenizer)
    tally = _Tally()
    outcomes = tally.counted(build_examples(recipe, tokenizer, pool=pool))
    shards = tuple(
        _write_shard(store, index, some) for index, some in enumerate(_sharded(outcomes, recipe.execution.shard_size))
    )
    planned = sum(each.questions for each in shards)
    counts = dict(sorted(Counter(each.reason for each in tally.drops).items()))
    if tally.rows != planned + len(tally.drops):
        raise BalanceError(f"{tally.rows} rows were read, but {planned} are planned and {len(tally.drops)} dropped")
    if not planned:
        raise InputError(f"{recipe.questions.source}: no question is left to plan; dropped: {_listed(counts)}")
    exact = has_chat_template(tokenizer)
    content = {
        "recipe": recipe.identity(),
        "prompts": _prompt_fingerprints(recipe.sampling.strategy, tally.languages, judge_prompts),
        "shards": [asdict(each) for each in shards],
        "questions": tally.rows,
        "drops": _write_input(store, nouns.to_table(tally.drops, nouns.DROP)),
        "drop_counts": counts,
        "exact_prompt_tokens": exact,
        "warnings": [*pool.warnings, *_warnings(recipe, tally, counts, exact)],
    }
    plan = Plan.from_json({"plan_id": fingerprint(content)[:16], **content})
    store.put_if_absent(plan_path(plan.plan_id), canonical(plan.to_json()))
    return plan


class _Tally:
    """Counts what passes by, and keeps the drops."""

    def __init__(self) -> None:
        self.rows = self.short = 0
        self.languages: set[str] = set()
        self.drops: list[Drop] = []

    def counted(self, outcomes: Iterable[Built | Drop]) -> Iterator[Built]:
        """Let the examples through."""
        for outcome in outcomes:
            self.rows += 1
            progress.advance("plan")
            if isinstance(outcome, Drop):
                self.drops.append(outcome)
                continue
            self.short += outcome.short
            self.languages.add(outcome.example.language)
            yield outcome


def _sharded(outcomes: Iterable[Built], shard_size: int) -> Iterator[list[Built]]:
    shard: list[Built] = []
    sizes: dict[str, int] = {}
    for built in outcomes:
        size = 0 if built.context.context_id in sizes else len(built.context.text)
        if shard and (len(shard) == shard_size or sum(sizes.values()) + size > SHARD_CHARACTERS):
            yield shard
            shard, sizes = [], {}
        shard.append(built)
        sizes.setdefault(built.context.context_id, len(built.context.text))
    if shard:
        yield shard


def _write_shard(store: Store, index: int, shard: list[Built]) -> PlannedShard:
    contexts = {built.context.context_id: built.context for built in shard}
    order = {context_id: place for place, context_id in enumerate(contexts)}
    together = sorted(shard, key=lambda built: order[built.example.context_id])
    return PlannedShard(
        index,
        _write_input(store, nouns.to_table([built.example for built in together], nouns.EXAMPLE)),
        _write_input(store, nouns.to_table(contexts.values(), nouns.CONTEXT), _CONTEXT_ROWS),
        len(shard),
        len(contexts),
        sum(built.prompt_tokens for built in shard),
    )


def _write_input(store: Store, table: pa.Table, rows_per_group: int | None = None) -> str:
    """Write a table under the name of its content, unless it is there; returns the path."""
    data = table_bytes(table, rows_per_group=rows_per_group, dictionary=False)
    path = f"inputs/{hashlib.sha256(data).hexdigest()}.parquet"
    if not store.exists(path):
        store.write(path, data)
    return path


def _judge_prompt_names(recipe: Recipe) -> list[str]:
    """Names of the prompt files that the recipe's scorers ask the judge with. Raises RecipeError."""
    scorers = [(active, known_scorers()[active.name]) for active in check_scorers(recipe)]
    return sorted({name for active, scorer in scorers for name in scorer.prompts(active.settings, recipe)})


def _prompt_fingerprints(strategy: str, languages: Iterable[str], judge_prompts: Iterable[str]) -> dict[str, str]:
    """Of the sampling prompt in the languages that occur, and of the judge's in all: notes on a chunk are asked for
    in the language of the chunk, whatever the question's."""
    prompts = [sample_prompt_text(strategy, language) for language in sorted(languages)]
    prompts += [load_prompt(name, language) for name in judge_prompts for language in get_args(Language)]
    return {f"{prompt.language}/{prompt.name}": prompt.fingerprint for prompt in prompts}


def _warnings(recipe: Recipe, tally: _Tally, counts: Mapping[str, int], exact: bool) -> list[str]:
    warnings = []
    if tally.short:
        warnings.append(
            f"{tally.short} contexts are shorter than their target, because the pool has too little text: "
            "give a larger contexts.pool or lower contexts.max_tokens"
        )
    if recipe.contexts.build == "given" and counts.get("prompt_too_long"):
        warnings.append(
            f"{counts['prompt_too_long']} prompts do not fit policy.context_window ({recipe.policy.context_window}) "
            f"together with sampling.max_tokens ({recipe.sampling.max_tokens})"
        )
    if recipe.strong is not None:
        warnings.append(f"the calls to {recipe.strong.name}, one for each question, are not in the estimate")
    if not exact:
        warnings.append("the policy's tokenizer has no chat template: prompt tokens are an estimate")
    return warnings


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "none"
