"""Builds over a server that counts no tokens: they are counted here, in each run alike, and budgets bite."""

from pathlib import Path
from typing import Any

import pytest

from flows.bench.common import stub_recipe, write_questions
from flows.build import build
from flows.shard import shard_recipe
from infra.errors import BudgetReached
from infra.recipe import Recipe
from tasks.reporting.tables import build_rows
from tests.support.stub_server import StubServer, running_stub

pytestmark = pytest.mark.usefixtures("prefect")


def recipe_for(folder: Path, stub: StubServer, **sections: Any) -> Recipe:
    write_questions(folder / "questions.jsonl", 8, 600)
    execution = {"shard_size": 4, "task_retries": 0, "attempts": 2, "concurrency": 2}
    return stub_recipe(folder, stub.url, sampling={"samples": 4}, execution=execution, **sections)


@pytest.mark.medium
def test_tokens_are_counted_here_alike_in_every_run(folder: Path) -> None:
    with running_stub(without_usage=True) as stub:
        with pytest.raises(BudgetReached, match=r"budget\.tokens"):
            build(shard_recipe(recipe_for(folder, stub, budget={"tokens": 3000})))
        asked = stub.requests
        assert 4 <= asked < 32
        with pytest.raises(BudgetReached, match=r"budget\.tokens"):
            build(shard_recipe(recipe_for(folder, stub, budget={"tokens": 3000})))
        assert stub.requests == asked  # what the ledger has is spent
        first = build(shard_recipe(recipe_for(folder, stub)))
        again = build(shard_recipe(recipe_for(folder, stub)))  # from the shards' tables
        assert stub.requests == 32
        spent = again["bill"]["models"]["policy"]["prompt_tokens"]["billed"]
        with pytest.raises(BudgetReached, match=r"budget\.tokens"):  # one more sample would be beyond it
            more = {"budget": {"tokens": spent}, "sampling": {"samples": 5}}
            build(shard_recipe(recipe_for(folder, stub).model_copy(update=parts_of(folder, stub, more))))
        assert stub.requests == 32
    assert first["bill"]["models"] == again["bill"]["models"]
    assert first["bill"]["counted_here"] == again["bill"]["counted_here"] == {"replies": 32, "of": 32}
    assert 0.9 < first["bill"]["models"]["policy"]["prompt_tokens"]["ratio"] < 1.1
    assert ["tokens counted here", "32 of 32 replies had no usage"] in build_rows(first)[1]


def parts_of(folder: Path, stub: StubServer, sections: dict[str, Any]) -> dict[str, Any]:
    changed = stub_recipe(folder, stub.url, **sections)
    return {name: getattr(changed, name) for name in sections}
