"""A build that drops too much: its exit status, its state in Prefect, and `latest.json`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from flows.bench.common import stub_recipe
from infra.errors import BudgetReached, LongmillError, YieldError
from infra.store import open_store
from tests.support.stub_server import StubServer, running_stub

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect")]

EMPTY = "Quisquilia"  # the stub answers a prompt that holds it with an empty text


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with running_stub() as server:
        server.options.empty_word = EMPTY
        yield server


@pytest.fixture
def recipe(folder: Path, stub: StubServer) -> str:
    recipe = stub_recipe(folder, stub.url, sampling={"samples": 4}, execution={"attempts": 1, "task_retries": 0})
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return str(folder / "recipe.yaml")


def write_questions(empty: int, count: int = 12) -> None:
    rows = []
    for number in range(count):
        text = " ".join(f"word{number}x{place}" for place in range(80))
        rows.append({"id": f"q{number}", "question": f"What is {number}?", "context": text})
        if number < empty:
            rows[-1]["context"] += f" {EMPTY}"
    Path("questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def build(recipe: str, monkeypatch: pytest.MonkeyPatch, *changes: str) -> Result:
    """`longmill build`, in this process and with its Prefect server."""
    from prefect.settings import PREFECT_API_URL

    from flows.cli.app import app

    monkeypatch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))
    options = [word for change in changes for word in ("--set", change)]
    return CliRunner().invoke(app, ["build", recipe, *options])


def status(ended: Result) -> int:
    """What the process would end with: `run_to_the_end` takes it from the error."""
    return ended.exception.exit_code if isinstance(ended.exception, LongmillError) else ended.exit_code


def latest() -> dict[str, Any]:
    pointer: dict[str, Any] = json.loads(open_store("store").read("datasets/bench/latest.json"))
    return pointer


def test_a_build_ends_with_0_3_4_or_5_and_latest_moves_with_a_word_or_not_at_all(
    recipe: str, stub: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_questions(empty=0)
    planned = build(recipe, monkeypatch, "pairing.max_likeness=1")
    assert status(planned) == 0, planned.output
    assert "note:" not in planned.output
    first = latest()

    write_questions(empty=3)
    stopped = build(recipe, monkeypatch)
    assert status(stopped) == 4
    assert isinstance(stopped.exception, YieldError)
    assert "3 of 12 questions (25%) gave no pair for a fault" in str(stopped.exception)
    assert latest() == first

    calls = stub.stats()["requests"]
    warned = build(recipe, monkeypatch, "execution.max_drop_share=0.25", "pairing.max_likeness=1")
    assert status(warned) == 3, warned.output
    assert stub.stats()["requests"] == calls  # from the ledger
    notes = " ".join(warned.output.split())
    assert "note: 3 of 12 questions (25%) gave no pair for a fault" in notes
    assert "note: datasets/bench/latest.json moves to a smaller dataset" in notes
    assert latest() != first

    spent = build(recipe, monkeypatch, "budget.calls=3", "seed=5")
    assert status(spent) == 5
    assert isinstance(spent.exception, BudgetReached)


def test_a_stopped_build_is_a_failed_flow_run_with_the_message(recipe: str, stub: StubServer) -> None:
    from flows.build import build as build_flow
    from flows.cli.plan_state import plan_status
    from flows.recipes import read_recipe

    write_questions(empty=12)
    state = build_flow(read_recipe(recipe), return_state=True)
    assert state.is_failed()
    assert "12 of 12 questions (100%) gave no pair for a fault" in state.message
    assert not list(open_store("store").list("datasets"))
    (plan,) = plan_status("store", "")
    assert plan["shards"][0]["error"].startswith("YieldError: shard 0 of plan")


def test_the_error_of_a_shard_on_another_worker_is_the_same_one(folder: Path) -> None:
    from flows.workers import unfinished_error
    from tasks.records.shard import write_failure

    store = open_store(str(folder))
    write_failure(store, "0" * 16, 0, YieldError("12 of 12 questions"))
    with pytest.raises(YieldError, match="12 of 12 questions"):
        raise unfinished_error(store, "0" * 16, 0, "Failed")
