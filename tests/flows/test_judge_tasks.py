"""Every kind of call is a Prefect task with a name that a person reads; a failed part is named, and run again alone."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.errors import LongmillError
from infra.recipe import Recipe, parse_recipe
from infra.store import open_store
from tasks.records.shard import read_failure
from tests.support.judge_replies import JudgeServer, prompt_in, running_judge
from tests.support.judged_stub import judge_reply, judged_stub_recipe, step_of
from tests.support.stub_server import StubServer, running_stub

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect")]

KINDS = {"sample", "embed", "notes", "helpfulness", "logicality", "completeness", "facts", "support", "pair"}


@pytest.fixture
def policy() -> Iterator[StubServer]:
    with running_stub() as server:
        yield server


@pytest.fixture
def judge() -> Iterator[JudgeServer]:
    with running_judge(judge_reply) as server:
        yield server


def build(recipe: Recipe) -> dict[str, Any]:
    from flows.build import build as build_flow

    return build_flow(recipe)


def task_runs() -> list[tuple[str, str]]:
    """(name, state) of all task runs that the server has, the latest last."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.sorting import TaskRunSort

    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(limit=200, sort=TaskRunSort.EXPECTED_START_TIME_DESC)
    return [(run.name, run.state.name if run.state else "") for run in reversed(runs)]


def runs_of(recipe: Recipe, plan_id: str, wait_for: int) -> list[tuple[str, str]]:
    """The task runs of the shards, once the server has written so many down."""
    import time

    deadline = time.monotonic() + 40
    while True:
        runs = [run for run in task_runs() if re.match(r"[a-z_]+ · shard \d{4}", run[0])]
        if len(runs) >= wait_for or time.monotonic() > deadline:
            return runs
        time.sleep(0.5)


def test_every_kind_of_call_is_a_task_with_a_name_that_says_what_it_does(
    folder: Path, policy: StubServer, judge: JudgeServer
) -> None:
    built = build(judged_stub_recipe(folder, policy, judge))
    assert built["dataset"]["counts"]["questions"] == 6
    runs = runs_of(judged_stub_recipe(folder, policy, judge), built["plan_id"], wait_for=2 * len(KINDS))
    names = [name for name, _ in runs]
    assert {name.split(" ")[0] for name in names} >= KINDS
    shard_names = [name for name in names if name.startswith("support")]
    assert all(
        re.fullmatch(r"support · shard 000\d · questions \d+-\d+ · facts \d+-\d+( · round \d+)?", name)
        for name in shard_names
    )
    assert "notes · shard 0001 · questions 1-3 · chunks 1-3" in names
    assert "helpfulness · shard 0000 · questions 1-3 · answers 1-9" in names
    assert any(name.startswith("publish ") for name, _ in task_runs())


def test_a_dimension_that_fails_is_named_with_its_facts_and_only_that_part_runs_again(
    folder: Path, policy: StubServer, judge: JudgeServer
) -> None:
    recipe = judged_stub_recipe(folder, policy, judge)

    def broken(body: dict[str, Any]) -> str:
        if step_of(prompt_in(body)) == "support":
            raise ValueError("the judge is down")  # the server answers 500
        return judge_reply(body)

    judge.says = broken
    with pytest.raises(
        LongmillError, match=r"(?s)support · shard 0000 · questions 1-3 · facts 1-\d+: .*question q\d, fact “The text"
    ):
        build(recipe)
    store = open_store(recipe.store)
    plan_id = store.list("plans")[0].split("/")[1]
    failure = read_failure(store, plan_id, 0)
    assert failure is not None
    assert "support · shard 0000" in failure

    judge.says = judge_reply
    judge.bodies.clear()
    sampled = policy.stats()["requests"]
    built = build(recipe)
    assert built["dataset"] is not None
    assert set(Counter(step_of(prompt_in(body)) for body in judge.bodies)) == {"support"}
    assert policy.stats()["requests"] == sampled
    for kind in ("notes", "helpfulness", "logicality", "completeness", "facts"):
        assert built["calls"][kind]["made"] == 0
        assert built["calls"][kind]["reused"] > 0


def test_a_cached_task_whose_ledger_entries_are_gone_is_asked_again(
    folder: Path, policy: StubServer, judge: JudgeServer
) -> None:
    recipe = judged_stub_recipe(folder, policy, judge)
    first = build(recipe)
    store = open_store(recipe.store)
    for path in store.list("ledger"):
        store.delete(path)
    for path in store.list(f"plans/{first['plan_id']}/shards"):
        if not path.endswith(".parquet"):
            store.delete(path)
    judge.bodies.clear()
    again = build(recipe)
    assert again["dataset"]["sha256"] == first["dataset"]["sha256"]
    assert {step_of(prompt_in(body)) for body in judge.bodies} >= {"helpfulness", "notes", "support"}


def test_a_recipe_is_parsed_once_in_a_build(
    folder: Path, policy: StubServer, judge: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import flows.build

    settings = judged_stub_recipe(folder, policy, judge).model_dump(mode="json")
    parsed = []

    def counting(values: dict[str, Any], **more: Any) -> Recipe:
        parsed.append(values["name"])
        return parse_recipe(values, **more)

    monkeypatch.setattr(flows.build, "parse_recipe", counting)
    flows.build.build(settings)
    assert len(parsed) == 1
