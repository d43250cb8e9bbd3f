"""`longmill status`: what it shows of plans that run, fail, end and publish, and that it reads no table."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.bench.common import stub_recipe, write_questions
from flows.cli.plan_state import plan_state, plan_status
from flows.reports import Rate, build_path
from infra.recipe import Recipe
from infra.running.run_page import pages_address, run_link
from infra.store import Store, open_store
from infra.store.lease import LEASES, Holder, Lease
from tasks.planning.make_plan import make_plan
from tasks.records.plan import Plan, load_plan, recipe_path
from tasks.records.shard import write_failure
from tasks.reporting.metric_points import plan_points
from tasks.reporting.status_tables import (
    BEGINS,
    GOES_ON,
    build_lines,
    figures_line,
    model_rows,
    plans_rows,
    progress_line,
    step_rows,
)

SHARDS = 4


@pytest.fixture
def recipe(folder: Path) -> Recipe:
    write_questions(folder / "questions.jsonl", 2 * SHARDS, 200)
    return stub_recipe(
        folder,
        "http://127.0.0.1:9/v1",
        execution={"shard_size": 2},
        policy={"price": {"input_per_million": 1.0, "output_per_million": 2.0}},
    )


@pytest.fixture
def store(recipe: Recipe) -> Store:
    return open_store(recipe.store)


@pytest.fixture
def plan(recipe: Recipe, store: Store) -> Plan:
    plan = make_plan(recipe, store)
    store.write(recipe_path(plan.plan_id), json.dumps(recipe.model_dump(mode="json")).encode())
    return plan


@pytest.fixture
def built(store: Store, plan: Plan) -> Iterator[Lease]:
    """A build that goes on: shard 0 is done, 1 is in work, 2 has failed, 3 waits."""
    store.write(f"plans/{plan.plan_id}/shards/0000.json", b"{}")
    write_failure(store, plan.plan_id, 2, ValueError("question q4, step sample, http://gpu-1:8000: no luck"))
    write_report(store, plan)
    lease = Lease(store, f"{LEASES}/{plan.plan_id}", Holder.this_process("nightly sealong"))
    assert lease.try_to_take() is None
    yield lease


def write_report(store: Store, plan: Plan, **changes: Any) -> None:
    counts = {"made": 10, "reused": 2, "retried": 1, "failed": 0, "prompt_tokens": 1_000_000, "completion_tokens": 50}
    earlier = {"made": 5, "prompt_tokens": 1_000_000, "completion_tokens": 500_000}
    report = {
        "number": 3,
        "run": {"id": "0b7e", "name": "build bench"},
        "state": "running",
        "error": "",
        "started": "2026-11-28T12:00:00+00:00",
        "at": "2026-11-28T12:01:00+00:00",
        "questions": 6,
        "scored": 2,
        "per_minute": 2.0,
        "shards": [1],
        "calls": {"policy": {"sample": counts}},
        "earlier": {"policy": {"sample": earlier}},
        "dataset": None,
    }
    store.write(build_path(plan.plan_id), json.dumps({**report, **changes}).encode())


def without_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail when a table is read."""

    def refuse(self: Store, path: str, *_: Any) -> None:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(Store, "read_table", refuse)
    read = Store.read

    def read_others(self: Store, path: str) -> bytes:
        assert not path.endswith(".parquet"), path
        return read(self, path)

    monkeypatch.setattr(Store, "read", read_others)


@pytest.mark.usefixtures("built")
def test_a_plan_that_is_built_shows_shards_calls_cost_rate_and_who_builds_it(
    store: Store, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_tables(monkeypatch)
    (state,) = plan_status(store.place(""), plan.plan_id[:5])
    assert {name: counts["shards"] for name, counts in state["states"].items()} == {
        "done": 1,
        "running": 1,
        "failed": 1,
        "waiting": 1,
    }
    assert state["states"]["done"]["questions"] == 2
    assert (state["recipe"], state["questions"], state["dataset"]) == ("bench", 8, None)
    assert "'nightly sealong', process" in state["builder"]["words"]
    assert (state["build"]["state"], state["build"]["seconds_left"]) == ("running", 120)
    assert state["steps"]["sample"] == {"made": 15, "reused": 2, "retried": 1, "failed": 0, "expected": 64}
    assert state["cost"]["paid"] == pytest.approx(2 * 1.0 + 0.5 * 2.0, abs=0.001)  # of both builds
    assert state["cost"]["expected"] > 0
    assert state["shards"][2]["error"] == "ValueError: question q4, step sample, http://gpu-1:8000: no luck"
    assert state["rerun"] is None  # it may still be mended
    words = dict(build_lines(state))
    assert words["time left"] == "about 0:02:00"
    assert words["scored"] == "2 of 6 questions, 2.0 a minute, 8 in the plan"
    assert ["sample", "15", "2", "1", "0", "64"] in step_rows(state)[1]
    assert progress_line(state).startswith(
        f"plan {plan.plan_id}: 1 done, 1 running, 1 failed, 1 waiting; scored 2 of 6"
    )


@pytest.mark.usefixtures("built")
def test_what_a_build_does_now_is_shown_in_the_same_words_everywhere(
    store: Store, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    refusal = {"at": "2026-11-28T12:00:30+00:00", "model": "policy", "kind": "sample", "reason": "context_length"}
    now = {
        "tokens_per_second": {"policy": {"prompt": 4000.4, "completion": 100.0}},
        "in_flight": {"policy": 48, "judge": 16},
        "waits": {"judge": "waits 20 s"},
        "runs": {"1": "a1"},
        "pages": "http://gpu-1:4200",
        "refused": [{**refusal, "words": "maximum context length is 8"}],
    }
    write_report(store, plan, **now)
    state = plan_state(store, load_plan(store, plan.plan_id))
    words = dict(build_lines(state))
    assert words["tokens"] == "4,100 a second, policy 4,000 in and 100 out"
    assert words["in flight"] == "64 calls, policy 48, judge 16"
    assert words["reused"] == "17% of the calls"  # of this build: 2 of 12
    build = state["build"]
    assert (build["link"], build["shard_links"]) == (
        "http://gpu-1:4200/runs/flow-run/0b7e",
        {"1": "http://gpu-1:4200/runs/flow-run/a1"},
    )
    line = figures_line(build, state, short=True)
    assert line.startswith("2 questions a minute · about 0:02:00 left · 4,100 tokens a second · 64 calls in flight")
    assert figures_line(build, state, short=False).startswith(
        "2 of 6 questions scored, 2.0 a minute, 8 in the plan · about 0:02:00"
    )
    points = {(point.metric.name, point.labels): point.value for point in plan_points(state)}
    assert points["longmill.calls.in_flight", ("judge",)] == 16
    assert points["longmill.calls", ("sample", "made")] == 15
    assert points["longmill.shards", ("failed",)] == 1
    assert points["longmill.cost", ("policy", "USD")] == state["cost"]["paid"]
    assert points["longmill.build.running", ()] == 1
    write_report(store, plan, state="completed", **now)
    ended = plan_state(store, plan)["build"]
    assert (ended["in_flight"], ended["tokens_per_second"], ended["waits"], ended["link"]) == ({}, {}, {}, None)
    assert ended["refused"], "they stay for who looks afterwards"


@pytest.mark.usefixtures("built")
def test_before_and_after_its_build_a_run_does_not_look_like_one_that_builds(store: Store, plan: Plan) -> None:
    ended = {"state": "completed", "scored": 6, "started": "2999-01-01T00:00:00+00:00"}
    write_report(store, plan, **ended)
    words = dict(build_lines(plan_state(store, plan)))
    assert "'nightly sealong', process" in words[GOES_ON]
    assert "built now by" not in words and "last sign" not in words
    write_report(store, plan, **{**ended, "started": "2001-01-01T00:00:00+00:00"})
    assert BEGINS in dict(build_lines(plan_state(store, plan))), "the report is of an earlier build"
    store.delete(build_path(plan.plan_id))
    assert BEGINS in dict(build_lines(plan_state(store, plan))), "there is no report yet"
    write_report(store, plan)
    assert "built now by" in dict(build_lines(plan_state(store, plan)))


@pytest.mark.usefixtures("built")
def test_a_build_that_had_nothing_to_do_and_a_model_without_a_price_say_so(store: Store, plan: Plan) -> None:
    write_report(store, plan, state="completed", questions=0, scored=0)
    state = plan_state(store, plan)
    assert dict(build_lines(state))["scored"] == "nothing was left to do, 8 in the plan"
    assert model_rows(state)[1][0][-1].endswith(" USD")
    free = {**state, "cost": {**state["cost"], "expected": 0.0}}
    assert model_rows(free)[1][0][-1] == "—"


@pytest.mark.usefixtures("built")
def test_what_the_calls_wait_for_is_shown(store: Store, plan: Plan) -> None:
    write_report(store, plan, waits={"policy": "its server starts"})
    assert dict(build_lines(plan_state(store, plan)))["policy waits"] == "its server starts"


def test_a_rate_is_that_of_its_window() -> None:
    now = [0.0]
    rate = Rate(60.0, lambda: now[0])
    assert rate.per_second(0) is None
    seen = []
    for now[0], count in ((30.0, 300), (60.0, 300), (90.0, 300), (120.0, 330)):
        seen.append(rate.per_second(count))
    assert seen == [10.0, 5.0, None, 0.5]


def test_a_build_that_was_killed_runs_nothing_any_more_and_says_how_to_go_on(
    store: Store, plan: Plan, built: Lease
) -> None:
    built.release()
    state = plan_state(store, plan)
    assert (state["build"]["state"], state["builder"]) == ("killed", None)
    assert state["states"]["running"]["shards"] == 0
    assert state["build"]["seconds_left"] is None
    assert state["rerun"] == f"longmill rerun {plan.plan_id} --failed --store {store.place('')}"


def test_the_command_to_type_leaves_the_default_store_out(
    store: Store, plan: Plan, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    write_failure(store, plan.plan_id, 2, ValueError("no luck"))
    (folder / "mill").symlink_to(folder / "store")
    in_mill = open_store("mill")
    assert plan_state(in_mill, plan)["rerun"] == f"longmill rerun {plan.plan_id} --failed"
    monkeypatch.setenv("LONGMILL_STORE", "s3://elsewhere/mill")  # a shell without --store would look there
    assert plan_state(in_mill, plan)["rerun"].endswith(f"--store {in_mill.place('')}")


def test_plans_are_listed_the_newest_first_with_name_and_dataset(store: Store, recipe: Recipe, plan: Plan) -> None:
    import os

    more = recipe.model_copy(update={"sampling": recipe.sampling.model_copy(update={"samples": 3})})
    newer = make_plan(more, store)
    path = store.local_path(f"plans/{plan.plan_id}/plan.json")
    assert path is not None
    os.utime(path, (1_000_000_000, 1_000_000_000))
    states = plan_status(store.place(""), "")
    assert [state["plan_id"] for state in states] == [newer.plan_id, plan.plan_id]
    assert states[1]["written"].startswith("2001-09-09")
    assert plan_status(store.place(""), "", newest=1) == [states[0]]
    columns, rows = plans_rows(states)
    assert columns == ["plan", "recipe", "planned (UTC)", "questions", "shards", "dataset"]  # nobody builds one
    assert rows[1][:4] == [plan.plan_id, "bench", "2001-09-09 01:46", "8"]
    assert rows[0][1] == "—"  # never built
    assert rows[0][4] == f"{SHARDS} waiting"


def test_a_run_has_its_page_where_a_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert run_link("0b7e", pages_address()) is None
    monkeypatch.setenv("PREFECT_API_URL", "http://me:secret@gpu-1:4200/api")
    assert run_link("0b7e", pages_address()) == "http://gpu-1:4200/runs/flow-run/0b7e"
    assert run_link("", pages_address()) is None
    assert run_link("0b7e", "javascript:alert(1)") is None


def test_a_report_that_cannot_be_read_costs_its_figures_alone(store: Store, plan: Plan) -> None:
    store.write(build_path(plan.plan_id), b"{")
    state = plan_state(store, plan)
    assert (state["build"], state["steps"], state["cost"]) == (None, {}, None)
    assert state["states"]["waiting"]["shards"] == SHARDS


@pytest.mark.usefixtures("built")
def test_watching_prints_a_line_now_and_then_until_ctrl_c_which_is_its_normal_end(
    store: Store, plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows.cli import status as verb
    from flows.cli.ending import Interrupted

    looks = 0

    def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise Interrupted

    monkeypatch.setattr(verb.time, "sleep", sleep)
    verb.status(plan.plan_id, store=store.place(""), watch=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"plan {plan.plan_id}: 1 done, 1 running") for line in lines)


@pytest.mark.usefixtures("built")
def test_a_command_to_type_is_one_line_however_narrow_the_terminal_is(
    store: Store, plan: Plan, built: Lease, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows.cli.status import status

    built.release()
    status(plan.plan_id, store=store.place(""))
    printed = capsys.readouterr().out
    assert f"\nrun them again with: longmill rerun {plan.plan_id} --failed --store {store.place('')}\n" in printed
    assert "question q4, step sample, http://gpu-1:8000: no luck" in printed


@pytest.mark.medium
def test_a_plan_of_many_shards_is_shown_from_listings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.bench.status import make_plan_of_many_shards

    without_tables(monkeypatch)
    plan_id = make_plan_of_many_shards(tmp_path, shards=2000, questions=64)
    (state,) = plan_status(str(tmp_path), plan_id[:4])
    assert state["states"]["failed"]["shards"] == 2
    assert state["states"]["done"]["shards"] == 1799
    assert state["questions"] == 128_000
    assert {"sample", "facts", "helpfulness"} <= set(state["steps"])
