"""What a plan has cost: the sums of finished shards, and the calls in the ledger of the others."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.models.client import Request
from infra.models.protocol import new_entry
from infra.recipe import Budget
from infra.store import open_store
from tasks.records.plan import Plan, load_shard
from tasks.records.shard import ShardResult, discard_shard_result, write_shard_result
from tasks.resources import RunResources, open_resources
from tasks.sampling import sample_requests
from tasks.shard_part import write_shard_part
from tasks.spending import (
    PlanSpending,
    count_earlier_spending,
    count_finished,
    count_given_spending,
    forget_spending,
)
from tests.support.published import fake_plan, fake_recipe

CALLS = 6 * 5  # of a shard: questions × answers


@pytest.fixture
def resources(tmp_path: Path) -> Iterator[RunResources]:
    recipe = fake_recipe(tmp_path).model_copy(update={"budget": Budget(calls=1000)})
    with open_resources(recipe) as resources:
        yield resources


@pytest.fixture
def plan_and_results(resources: RunResources) -> tuple[Plan, list[ShardResult]]:
    """Four shards; all but the last have a part."""
    plan, results = fake_plan(resources.store, resources.recipe, shards=4)
    for result in results[:3]:
        inputs = load_shard(resources.store, plan, result.shard)
        write_shard_part(plan, result, resources.recipe, resources.store, *inputs)
    return plan, results


def calls_spent(resources: RunResources) -> int:
    meter = resources.policy._meter
    assert meter is not None
    return meter.spent().calls


def record(resources: RunResources, requests: list[Request]) -> None:
    """Put replies of 7 + 3 tokens into the ledger."""
    reply = '{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": '
    reply += '{"prompt_tokens": 7, "completion_tokens": 3}}'
    for request in requests:
        asyncio.run(resources.ledger.record(new_entry(request, 200, reply, 0.0)))


def requests_of(resources: RunResources, plan: Plan, index: int) -> list[Request]:
    examples, contexts = load_shard(resources.store, plan, index)
    return sample_requests(examples[0], contexts[examples[0].context_id], resources.recipe)


def test_a_shard_is_given_what_the_others_cost_and_reads_none_of_them(
    resources: RunResources, plan_and_results: tuple[Plan, list[ShardResult]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, results = plan_and_results
    spending = PlanSpending(resources, plan)
    spent = spending.besides([2])
    assert spent is not None
    assert sum(sums[0] for sums in spent.values()) == 3 * CALLS
    pair = spending.besides([2, 0])
    assert pair is not None
    assert sum(sums[0] for sums in pair.values()) == 2 * CALLS
    tokens = [result.prompt_tokens + result.completion_tokens for result in results]
    assert sum(sums[1] + sums[2] for sums in spent.values()) == sum(tokens) - tokens[2]
    monkeypatch.setattr(resources.store, "read", _no_read)
    count_given_spending(resources, plan, spent)
    count_earlier_spending(resources, plan)  # what is given is not read again
    assert calls_spent(resources) == 3 * CALLS


def _no_read(path: str) -> Any:
    raise AssertionError(f"{path} is read")


def test_finished_shards_are_counted_by_their_sums_and_once(
    resources: RunResources, plan_and_results: tuple[Plan, list[ShardResult]]
) -> None:
    plan, results = plan_and_results
    count_finished(resources, plan, results[0])
    count_earlier_spending(resources, plan)
    count_finished(resources, plan, results[3])
    assert calls_spent(resources) == 4 * CALLS
    reused = {kind: counts.reused for kind, counts in resources.policy.counts().items()}
    assert reused == {"sample": 2 * 6 * 4, "greedy": 2 * 6}


def test_of_an_unfinished_shard_the_calls_in_the_ledger_count_and_once(
    resources: RunResources, plan_and_results: tuple[Plan, list[ShardResult]]
) -> None:
    plan, results = plan_and_results
    discard_shard_result(resources.store, plan.plan_id, 1)
    requests = requests_of(resources, plan, 1)
    record(resources, requests)
    assert len(requests) == 5
    spending = PlanSpending(resources, plan)
    others, own = spending.besides([0]), spending.besides([1])
    assert others is not None
    assert own is not None
    assert sum(sums[0] for sums in others.values()) == 2 * CALLS + 5
    assert sum(sums[0] for sums in own.values()) == 3 * CALLS  # its own calls are counted when it needs them
    write_shard_result(resources.store, results[1])  # it has ended
    spending.count([1])
    others = spending.besides([0])
    assert others is not None
    assert sum(sums[0] for sums in others.values()) == 3 * CALLS
    discard_shard_result(resources.store, plan.plan_id, 1)
    count_earlier_spending(resources, plan)
    assert calls_spent(resources) == 3 * CALLS + 5
    resources.policy.complete(requests)  # they come from the ledger
    assert calls_spent(resources) == 3 * CALLS + 5


def test_a_finished_shard_that_runs_again_is_counted_by_its_calls(
    resources: RunResources, plan_and_results: tuple[Plan, list[ShardResult]]
) -> None:
    plan, results = plan_and_results
    count_earlier_spending(resources, plan)
    forget_spending(resources, results[1])
    assert calls_spent(resources) == 3 * CALLS
    requests = requests_of(resources, plan, 1)
    record(resources, requests)
    resources.policy.complete(requests)
    assert calls_spent(resources) == 3 * CALLS + len(requests)


def test_without_a_budget_nothing_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, recipe = open_store(str(tmp_path)), fake_recipe(tmp_path)
    plan, _ = fake_plan(store, recipe)
    with open_resources(recipe) as resources:
        monkeypatch.setattr(resources.store, "read", _no_read)
        assert PlanSpending(resources, plan).besides([0]) is None
        count_earlier_spending(resources, plan)
