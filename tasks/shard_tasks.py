"""The three Prefect tasks of a shard: sample and score for some of its examples, pair for all of them.

A task is a micro-batch (Prefect's overhead is per task, not per call). It takes names and numbers, finds the
open workbench, and returns references to tables that it wrote to the store, named by content. `key` is what
Prefect caches a task under; a reference whose table has gone is made again by the shard flow. `spans` cuts a
shard into micro-batches: of the policy's calls for `sample`, of the judge's for `score`.
"""

import hashlib
import math
import threading
from collections.abc import Iterable
from typing import Any

from prefect import task

from infra.recipe import Budget, Recipe
from infra.running import progress
from infra.running.prefect import TASK_SETTINGS, cache_key
from infra.store import Store, table_bytes
from tasks.pairing import pair_example
from tasks.records import example as nouns
from tasks.records.example import Answer, Drop, Judgement, Pair
from tasks.records.plan import Plan, load_shard
from tasks.records.shard import read_shard_result
from tasks.resources import RunResources, bench_named
from tasks.sampling import draw_answers, kind_of, sample_requests, strong_requests
from tasks.scoring import AnsweredQuestion, judge_all, known_scorers, parse_scorers, rewards

Reference = dict[str, Any]  # {"path", "sha256", "rows"}: a table in the store
Span = tuple[int, int]  # examples [start, stop) of a shard

MOST_BATCHES = 400  # of one kind in a shard; with twice as many, a flow run stays under a thousand tasks

_counting = threading.Lock()  # held while a budget is charged with what is there already

_SCHEMAS = {
    "answers": (Answer, nouns.ANSWER),
    "judgements": (Judgement, nouns.JUDGEMENT),
    "pairs": (Pair, nouns.PAIR),
    "drops": (Drop, nouns.DROP),
}


@task(name="sample", task_run_name="sample {index:04d} [{start}, {stop})", cache_key_fn=cache_key, **TASK_SETTINGS)
def sample(bench: str, plan_id: str, index: int, start: int, stop: int, key: str) -> Reference:
    """Draw the answers of the shard's examples [start, stop)."""
    work = bench_named(bench)
    examples, contexts = work.shard_in_memory(plan_id, index)
    answers = draw_answers(examples[start:stop], contexts, work.recipe, work.client, work.strong)
    return _keep(work.store, plan_id, index, "answers", answers)


@task(name="score", task_run_name="score {index:04d} [{start}, {stop})", cache_key_fn=cache_key, **TASK_SETTINGS)
def score(bench: str, plan_id: str, index: int, start: int, stop: int, answers: Reference, key: str) -> Reference:
    """Judge the answers of the shard's examples [start, stop), found in `answers`, with every scorer of the recipe."""
    work = bench_named(bench)
    examples, contexts = work.shard_in_memory(plan_id, index)
    drawn = _sampled(load_rows(work.store, "answers", answers))
    cases = [
        AnsweredQuestion(example, contexts[example.context_id], tuple(drawn[example.example_id]))
        for example in examples[start:stop]
    ]
    judgements = judge_all(cases, parse_scorers(work.recipe), work.scoring())
    progress.advance("score", stop - start)
    return _keep(work.store, plan_id, index, "judgements", judgements)


@task(name="pair", task_run_name="pair {index:04d}", cache_key_fn=cache_key, **TASK_SETTINGS)
def pair(
    bench: str, plan_id: str, index: int, answers: list[Reference], judgements: list[Reference], key: str
) -> dict[str, Reference]:
    """Pick the shard's pairs; every example without one becomes a drop. Returns the shard's four tables."""
    work = bench_named(bench)
    examples, _ = work.shard_in_memory(plan_id, index)
    drawn: list[Answer] = [row for part in answers for row in load_rows(work.store, "answers", part)]
    judged: list[Judgement] = [row for part in judgements for row in load_rows(work.store, "judgements", part)]
    reward = rewards(judged, parse_scorers(work.recipe))
    by_example: dict[str, list[Answer]] = {}
    for answer in drawn:
        by_example.setdefault(answer.example_id, []).append(answer)
    outcomes = [
        pair_example(example, by_example[example.example_id], reward, work.recipe.pairing, work.recipe.seed)
        for example in examples
    ]
    tables: dict[str, list[Any]] = {
        "answers": drawn,
        "judgements": judged,
        "pairs": [each for outcome in outcomes if not isinstance(outcome, Drop) for each in outcome],
        "drops": [outcome for outcome in outcomes if isinstance(outcome, Drop)],
    }
    return {kind: _keep(work.store, plan_id, index, kind, rows) for kind, rows in tables.items()}


def judge_calls_per_example(recipe: Recipe, context_tokens: int) -> int:
    """Calls to the judge that the recipe's scorers expect for one example; 0 where they ask nobody."""
    expected = 0.0
    for active in parse_scorers(recipe):
        expected += sum(known_scorers()[active.name].calls(active.settings, recipe, context_tokens).values())
    return math.ceil(expected)


def spans(within: Span, calls_per_example: int, batch_calls: int, shard_examples: int) -> list[Span]:
    """Examples [start, stop) in micro-batches of at most `batch_calls` calls, one example at least.

    In a shard of very many examples batches are larger, so that it has MOST_BATCHES of them at most. Where an
    example takes no call, there is one batch.
    """
    start, stop = within
    size = batch_calls // calls_per_example if calls_per_example else stop - start
    size = max(1, size, -(-shard_examples // MOST_BATCHES))
    return [(first, min(first + size, stop)) for first in range(start, stop, size)]


def _sampled(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    """The sampled answers, without the greedy and the stronger model's, by example."""
    by_example: dict[str, list[Answer]] = {}
    for answer in answers:
        if answer.sample_index >= 0:
            by_example.setdefault(answer.example_id, []).append(answer)
    return by_example


def count_reused(work: RunResources, answers: Reference) -> None:
    """Count the calls of a table of answers that needed no call now: they are reused, and part of the budget."""
    for answer in load_rows(work.store, "answers", answers):
        if answer.key and answer.prompt_tokens:
            client = work.asked_for(answer.sample_index)
            client.count_reused(kind_of(answer), answer.key, answer.prompt_tokens, answer.completion_tokens)


def spend_held(work: RunResources, plan: Plan) -> None:
    """Count what a plan has already as spent, whoever paid for it, where there is a budget.

    That is the answers of finished shards, and for the others what the ledger holds of their samples: a budget
    limits the plan, while a worker's process, or a re-run of a few shards, would otherwise start from nothing.
    Once per workbench, before its first call: what other processes pay for later is not seen, nor are calls to
    the judge before they are asked for again.
    """
    if work.recipe.budget == Budget():
        return
    with _counting:
        for each in plan.shards if work.first_look(plan) else ():
            if (result := read_shard_result(work.store, plan.plan_id, each.index)) is not None:
                columns = ["sample_index", "key", "prompt_tokens", "completion_tokens"]
                table = work.store.read_table(result.files["answers"].path, columns)
                for index, key, prompt_tokens, completion_tokens in zip(*table.to_pydict().values(), strict=True):
                    if key and prompt_tokens:
                        work.asked_for(index).spend(key, prompt_tokens, completion_tokens)
            else:
                _spend_ledger(work, plan, each.index)


def _spend_ledger(work: RunResources, plan: Plan, index: int) -> None:
    """Count the samples of a shard that the ledger holds as spent."""
    examples, contexts = load_shard(work.store, plan, index)
    for example in examples:
        context = contexts[example.context_id]
        requests = [
            *sample_requests(example, context, work.recipe),
            *strong_requests(example, context, work.recipe),
        ]
        clients = {request.key: work.asked_for(request.sample_index) for request in requests}
        for entry in work.ledger.lookup(list(clients)).values():
            clients[entry.key].spend(entry.key, entry.prompt_tokens, entry.completion_tokens)


def load_rows(store: Store, kind: str, reference: Reference) -> list[Any]:
    """The rows of a table that a task wrote."""
    noun, _ = _SCHEMAS[kind]
    return nouns.from_table(store.read_table(reference["path"]), noun)


def _keep(store: Store, plan_id: str, index: int, kind: str, rows: list[Any]) -> Reference:
    data = table_bytes(nouns.to_table(rows, _SCHEMAS[kind][1]))
    sha256 = hashlib.sha256(data).hexdigest()
    path = f"plans/{plan_id}/shards/{index:04d}/{kind}-{sha256[:16]}.parquet"
    if not store.exists(path):
        store.write(path, data)
    return {"path": path, "sha256": sha256, "rows": len(rows)}


def references_exist(bench: RunResources, references: list[Reference]) -> bool:
    """True when every referenced table is still in the store."""
    return all(bench.store.exists(reference["path"]) for reference in references)
