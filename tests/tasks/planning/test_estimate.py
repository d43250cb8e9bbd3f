"""An estimate counts every call once, subtracts what the ledger holds, and prices the rest."""

import asyncio
import json

import pytest

from infra.ledger import Entry, Ledger
from infra.store import open_store
from tasks.planning.estimate import estimate
from tasks.planning.make_plan import make_plan
from tasks.records.plan import load_shard
from tasks.sampling import sample_requests
from tests.support.planning import small_recipe


@pytest.fixture
def work(tmp_path):
    rows = [{"id": f"g{number}", "question": f"Q{number}?", "context": f"Context {number}."} for number in range(6)]
    rows.append({"id": "fr", "question": "Q?", "context": "C", "language": "fr"})
    recipe = small_recipe(tmp_path, rows, sampling={"greedy": True})
    store = open_store(recipe.store)
    with Ledger(store) as ledger:
        yield recipe, store, make_plan(recipe, store), ledger


def record(ledger, requests, prompt_tokens, completion_tokens):
    """Put a reply of each request into the ledger; every reply is a token longer than the one before."""

    async def record_all():
        for number, request in enumerate(requests):
            entry = Entry(
                request.key,
                request.kind,
                "stub",
                "main",
                200,
                "{}",
                prompt_tokens,
                completion_tokens + number,
                1.0,
                0.0,
            )
            await ledger.record(entry)

    asyncio.run(record_all())


def requests_of(recipe, store, plan):
    requests = []
    for shard in plan.shards:
        examples, contexts = load_shard(store, plan, shard.index)
        for example in examples:
            requests.extend(sample_requests(example, contexts[example.context_id], recipe))
    return requests


def test_with_an_empty_ledger_everything_is_to_be_paid(work):
    recipe, store, plan, ledger = work
    view = estimate(plan, recipe, store, ledger).to_json()
    prompts = sum(shard.prompt_tokens for shard in plan.shards)
    assert view["calls"] == {
        "greedy": {"total": 6, "held": 0, "to_make": 6},
        "sample": {"total": 18, "held": 0, "to_make": 18},
    }
    assert view["tokens"]["input"] == view["tokens"]["input_total"] == 4 * prompts
    assert view["tokens"]["output"] == {"low": 24 * 8, "expected": 24 * 32, "high": 24 * 64}
    assert view["cost"]["currency"] == "EUR"
    assert view["cost"]["high"] == pytest.approx((4 * prompts * 2 + 24 * 64 * 8) / 1e6, abs=1e-4)
    assert (view["questions"], view["examples"], view["drops"]) == (7, 6, {"language": 1})
    json.dumps(view)


def test_calls_in_the_ledger_are_not_counted_again_and_give_the_expected_length(work):
    recipe, store, plan, ledger = work
    samples = [request for request in requests_of(recipe, store, plan) if request.kind == "sample"]
    record(ledger, samples[:11], 10, 20)  # 20, 21, ..., 30 output tokens
    view = estimate(plan, recipe, store, ledger).to_json()
    assert view["calls"]["sample"] == {"total": 18, "held": 11, "to_make": 7}
    assert view["calls"]["greedy"]["to_make"] == 6
    assert view["tokens"]["input"] == view["tokens"]["input_total"] - 110
    assert view["tokens"]["output"] == {"low": 13 * 21, "expected": 13 * 25, "high": 13 * 64}


@pytest.mark.medium
def test_when_every_call_is_in_the_ledger_nothing_is_to_be_paid(work):
    recipe, store, plan, ledger = work
    record(ledger, requests_of(recipe, store, plan), 10, 5)
    view = estimate(plan, recipe, store, ledger).to_json()
    assert all(calls["to_make"] == 0 for calls in view["calls"].values())
    assert (view["tokens"]["input"], view["cost"]["high"]) == (0, 0)


@pytest.mark.medium
def test_more_samples_cost_the_difference_alone(work):
    recipe, store, plan, ledger = work
    record(ledger, requests_of(recipe, store, plan), 10, 5)
    more = recipe.model_copy(update={"sampling": recipe.sampling.model_copy(update={"samples": 5})})
    calls = estimate(make_plan(more, store), more, store, ledger).to_json()["calls"]
    assert calls["sample"] == {"total": 30, "held": 18, "to_make": 12}
    assert calls["greedy"]["to_make"] == 0
