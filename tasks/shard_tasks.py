"""The three Prefect tasks of a shard: sample, score, pair.

A task is a micro-batch (Prefect's overhead is per task, not per call). It takes names and numbers, finds the
open workbench, and returns references to tables that it wrote to the store, named by content. `key` is what
Prefect caches a task under; a reference whose table has gone is made again by the shard flow.
"""

import hashlib
from typing import Any

from prefect import task

from infra import progress
from infra.orchestration import TASK_SETTINGS, cache_key
from infra.recipe import Budget
from infra.store import Store, table_bytes
from tasks import nouns
from tasks.nouns import Answer, Drop, Judgement, Pair
from tasks.pairing import pair_example
from tasks.plan import Plan
from tasks.sampling import draw_answers, kind_of
from tasks.scoring import Case, judge_all, parse_scorers, rewards
from tasks.shard_result import read_shard_result
from tasks.workbench import Workbench, bench_named

Reference = dict[str, Any]  # {"path", "sha256", "rows"}: a table in the store

_SCHEMAS = {
    "answers": (Answer, nouns.ANSWER),
    "judgements": (Judgement, nouns.JUDGEMENT),
    "pairs": (Pair, nouns.PAIR),
    "drops": (Drop, nouns.DROP),
}


@task(name="sample", task_run_name="sample {index:04d} batch {batch}", cache_key_fn=cache_key, **TASK_SETTINGS)
def sample(bench: str, plan_id: str, index: int, batch: int, start: int, stop: int, key: str) -> Reference:
    """Draw the answers of the shard's examples [start, stop)."""
    work = bench_named(bench)
    examples, contexts = work.shard_in_memory(plan_id, index)
    answers = draw_answers(examples[start:stop], contexts, work.recipe, work.client)
    return _keep(work.store, plan_id, index, "answers", answers)


@task(name="score", task_run_name="score {index:04d}", cache_key_fn=cache_key, **TASK_SETTINGS)
def score(bench: str, plan_id: str, index: int, answers: list[Reference], key: str) -> dict[str, Reference]:
    """Judge the shard's answers with every scorer of the recipe."""
    work = bench_named(bench)
    examples, contexts = work.shard_in_memory(plan_id, index)
    drawn = [answer for reference in answers for answer in load_rows(work.store, "answers", reference)]
    by_example: dict[str, list[Answer]] = {}
    for answer in drawn:
        if answer.sample_index >= 0:
            by_example.setdefault(answer.example_id, []).append(answer)
    cases = [Case(example, contexts[example.context_id], tuple(by_example[example.example_id])) for example in examples]
    judgements = judge_all(cases, parse_scorers(work.recipe), work.scoring())
    progress.advance("score", len(examples))
    return {
        "answers": _keep(work.store, plan_id, index, "answers", drawn),
        "judgements": _keep(work.store, plan_id, index, "judgements", judgements),
    }


@task(name="pair", task_run_name="pair {index:04d}", cache_key_fn=cache_key, **TASK_SETTINGS)
def pair(bench: str, plan_id: str, index: int, scored: dict[str, Reference], key: str) -> dict[str, Reference]:
    """Pick the shard's pairs; every example without one becomes a drop."""
    work = bench_named(bench)
    examples, _ = work.shard_in_memory(plan_id, index)
    answers: list[Answer] = load_rows(work.store, "answers", scored["answers"])
    reward = rewards(load_rows(work.store, "judgements", scored["judgements"]), parse_scorers(work.recipe))
    by_example: dict[str, list[Answer]] = {}
    for answer in answers:
        if answer.sample_index >= 0:
            by_example.setdefault(answer.example_id, []).append(answer)
    outcomes = [
        pair_example(example, by_example[example.example_id], reward, work.recipe.pairing, work.recipe.seed)
        for example in examples
    ]
    pairs = [outcome for outcome in outcomes if isinstance(outcome, Pair)]
    drops = [outcome for outcome in outcomes if isinstance(outcome, Drop)]
    return {
        "pairs": _keep(work.store, plan_id, index, "pairs", pairs),
        "drops": _keep(work.store, plan_id, index, "drops", drops),
    }


def count_reused(work: Workbench, answers: Reference) -> None:
    """Count the calls of a table of answers that needed no call now: they are reused, and part of the budget."""
    for answer in load_rows(work.store, "answers", answers):
        if answer.key and answer.prompt_tokens:
            work.client.count_reused(kind_of(answer), answer.key, answer.prompt_tokens, answer.completion_tokens)


def spend_finished(work: Workbench, plan: Plan) -> None:
    """Count the answers of a plan's finished shards as spent, whoever paid for them, where there is a budget.

    A budget limits the plan; a worker's process, or a re-run of a few shards, would otherwise start from nothing.
    Once per workbench: what other processes finish later is not seen.
    """
    if work.recipe.budget == Budget() or not work.first_look(plan):
        return
    for each in plan.shards:
        if (result := read_shard_result(work.store, plan.plan_id, each.index)) is not None:
            table = work.store.read_table(result.files["answers"].path, ["key", "prompt_tokens", "completion_tokens"])
            for key, prompt_tokens, completion_tokens in zip(*table.to_pydict().values(), strict=True):
                if key and prompt_tokens:
                    work.client.spend(key, prompt_tokens, completion_tokens)


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


def references_exist(bench: Workbench, references: list[Reference]) -> bool:
    """True when every referenced table is still in the store."""
    return all(bench.store.exists(reference["path"]) for reference in references)
