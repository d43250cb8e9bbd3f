"""How a shard is cut into micro-batches."""

import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.utilities.annotations import quote

from flows.shard import calls_per_span
from infra.ledger import Entry
from infra.models.refusals.recorded import RecordedRefusals
from infra.recipe import Execution
from infra.store import open_store
from tasks.records.example import Answer
from tasks.shard_tasks import MOST_SPANS, answers_hold, cut_spans, put_table
from tests.support.judge_replies import running_judge
from tests.support.judged_stub import judge_reply, judged_stub_recipe
from tests.support.memory_ledger import MemoryLedger
from tests.support.stub_server import running_stub


@pytest.mark.parametrize(
    ("planned", "calls"),
    [(10_240, 512), (4096, 256), (768, 48), (40, 16)],
)
def test_a_small_plan_has_smaller_batches_that_still_keep_all_calls_in_flight(planned: int, calls: int) -> None:
    assert calls_per_span(planned, Execution(batch_calls=512, concurrency=64)) == calls


def test_no_batch_has_more_calls_than_the_recipe_says() -> None:
    assert calls_per_span(10_240, Execution(batch_calls=8, concurrency=64)) == 8


def test_batches_hold_as_many_examples_as_their_calls_allow() -> None:
    assert cut_spans(10, 8, 32) == [(0, 4), (4, 8), (8, 10)]
    assert cut_spans(3, 100, 32) == [(0, 1), (1, 2), (2, 3)]
    assert cut_spans(3, 0, 32) == [(0, 3)]


@given(st.integers(1, 3000), st.integers(0, 300), st.integers(1, 4096))
def test_every_example_is_in_one_span_and_a_shard_has_few_spans(count: int, calls: int, batch: int) -> None:
    spans = cut_spans(count, calls, batch)
    places = []
    for first, stop in spans:
        places.extend(range(first, stop))
    assert places == list(range(count))
    assert len(spans) <= MOST_SPANS


def test_a_table_of_answers_that_sampling_would_not_give_now_is_made_again(tmp_path: Path) -> None:
    """Prefect's cache may hold tables from before, with dropped calls that a later run can pay for."""
    ledger = MemoryLedger()
    ledger.entries["long"] = Entry("long", "sample", "m", "main", 400, "{}", 0, 0, 0.1, 0.0)
    resources = SimpleNamespace(store=open_store(str(tmp_path)), ledger=ledger, refusals=RecordedRefusals())
    plan = SimpleNamespace(plan_id="p")
    shard: Any = SimpleNamespace(resources=resources, plan=plan, index=0)

    def holds(text: str, finish_reason: str, key: str) -> bool:
        table = put_table(shard, "answers", [Answer("e", 0, text, finish_reason, 1, 1, "default", key)])
        return answers_hold(shard, table.to_json())

    assert holds("It is.", "stop", "a")
    assert holds("", "length", "a")
    assert holds("", "prompt_too_long", "long")
    resources.refusals = RecordedRefusals(retry=True)
    assert not holds("", "prompt_too_long", "long")
    resources.refusals = RecordedRefusals()
    assert not holds("", "bad_request", "credit")  # a 402 of an earlier version: the ledger does not have it
    assert not holds("It i", "abort", "a")
    assert not answers_hold(shard, {"path": "plans/p/gone.parquet", "sha256": "0" * 64, "rows": 1})


@pytest.mark.slow
def test_a_large_shard_has_fewer_than_a_thousand_task_runs(folder: Path) -> None:
    """Counted without Prefect: every task's function is called as it is."""
    from flows.shard import sample_score_pair
    from tasks.planning.make_plan import make_plan
    from tasks.records.plan import load_shard
    from tasks.resources import open_resources
    from tasks.shard_tasks import ShardInMemory

    counts: Counter[str] = Counter()
    lock = threading.Lock()

    def run_task(task: Any, arguments: tuple[Any, ...], *_: Any) -> tuple[Any, bool]:
        with lock:
            counts[task.name] += 1
        plain = [argument.unquote() if isinstance(argument, quote) else argument for argument in arguments]
        return task.fn(*plain), False

    with running_stub() as policy, running_judge(judge_reply) as judge:
        recipe = judged_stub_recipe(folder, policy, judge, questions=240, shard_size=240, batch_calls=4)
        with open_resources(recipe) as resources:
            plan = make_plan(recipe, resources.store)
            shard = ShardInMemory(resources, plan, 0, *load_shard(resources.store, plan, 0), run_task)
            result = sample_score_pair(shard)
    assert result.questions == 240
    assert counts["support"] >= 40
    assert sum(counts.values()) < 1000
