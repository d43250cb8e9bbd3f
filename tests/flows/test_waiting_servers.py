"""A run that needs no call starts no server: the same build again, and evaluation whose answers are in the ledger."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from flows.bench.common import stub_recipe, write_questions
from infra.recipe import Recipe
from infra.running.processes import ChildProcess
from tests.support.served_model import stub_model

pytestmark = pytest.mark.usefixtures("prefect")


@pytest.fixture
def recipe(folder: Path) -> Recipe:
    """Eight questions for a model that is served by the stub of `folder`/stub."""
    write_questions(folder / "questions.jsonl", 8, 400)
    settings = stub_recipe(folder, "http://127.0.0.1:9/v1", sampling={"samples": 6}, dataset={"test_fraction": 0.5})
    return settings.model_copy(update={"policy": stub_model(folder / "stub")})


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The commands of the servers that are started."""
    commands: list[Sequence[str]] = []

    def counting(argv: Sequence[str], **settings: Any) -> ChildProcess:
        commands.append(argv)
        return ChildProcess(argv, **settings)

    monkeypatch.setattr("infra.serving.server.ChildProcess", counting)
    return commands


@pytest.mark.medium
def test_the_same_build_again_starts_no_server_and_a_larger_one_does(
    folder: Path, recipe: Recipe, started: list[Sequence[str]]
) -> None:
    from flows.build import build

    first = build(recipe)
    assert len(started) == 1
    again = build(recipe)
    assert len(started) == 1
    assert again["dataset"]["sha256"] == first["dataset"]["sha256"]
    assert again["calls"]["sample"]["made"] == 0
    write_questions(folder / "questions.jsonl", 9, 400)
    assert build(recipe)["calls"]["sample"]["made"] > 0
    assert len(started) == 2


@pytest.mark.medium
def test_shards_that_run_again_are_served_although_the_ledger_has_their_replies(
    folder: Path, recipe: Recipe, started: list[Sequence[str]]
) -> None:
    from flows.build import build
    from infra.store import open_store
    from tasks.records.shard import discard_shard_result

    first = build(recipe)
    discard_shard_result(open_store(recipe.store), first["plan_id"], 0)
    again = build(recipe)
    assert again["dataset"]["sha256"] == first["dataset"]["sha256"]
    assert len(started) == 2


@pytest.mark.medium
def test_evaluation_loads_the_adapter_when_an_answer_is_missing(
    folder: Path, recipe: Recipe, started: list[Sequence[str]]
) -> None:
    from flows.evaluate import evaluate_models
    from infra.recipe import Evaluation

    row = {"question": "Who built the dam?", "context": "The dam was built by Ann Lee.", "answers": ["Ann Lee"]}
    (folder / "held-out.jsonl").write_text(json.dumps(row) + "\n")
    evaluation = Evaluation.model_validate({"questions": {"source": str(folder / "held-out.jsonl")}, "resamples": 10})
    settings = recipe.model_copy(update={"evaluation": evaluation})
    adapter = folder / "store" / "models" / "small" / "abc"
    adapter.mkdir(parents=True)
    trained = {"model": "models/small/abc", "name": "small-abc", "revision": "abc", "kind": "adapter"}
    first = evaluate_models(settings, None, trained)
    assert len(started) == 1  # for the policy's answers; the adapter goes into the same server
    again = evaluate_models(settings, None, trained)
    assert len(started) == 1
    assert again["after"] == first["after"]
    assert again["calls"]["evaluate after"]["made"] == 0
