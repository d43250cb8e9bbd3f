"""A build whose answers are judged, by the rule-based judge that the build starts itself."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.bench.common import stub_recipe
from infra.errors import EvaluationError, JudgeError
from infra.recipe import Recipe, parse_recipe
from infra.store import open_store
from tasks.microworld.make import write_pool
from tests.support.judge_replies import running_judge
from tests.support.stub_server import StubServer, running_stub

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect")]

JUDGE = {
    "name": "rule-based",
    "rule_based": True,
    "tokenizer": "microworld",
    "prompts": "terse",
    "price": {"input_per_million": 1_000_000.0, "currency": "EUR"},
}


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with running_stub() as server:
        yield server


def recipe_for(folder: Path, stub: StubServer) -> Recipe:
    write_pool(folder, questions=6, seed=1, people=12)
    sections: dict[str, Any] = {
        "questions": {"source": str(folder / "questions.jsonl")},
        "contexts": {"build": "pooled", "min_tokens": 256, "max_tokens": 512, "step_tokens": 256},
        "judge": JUDGE,
        "sampling": {"samples": 3},
        "scoring": {"scorers": [{"scorer": "helpfulness"}, {"scorer": "completeness", "chunk_tokens": 128}]},
        "pairing": {"rule": "best_vs_worst"},
        "execution": {"shard_size": 3, "attempts": 2, "task_retries": 0},
    }
    return stub_recipe(folder, stub.url, **sections)


def build(recipe: Recipe) -> dict[str, Any]:
    from flows.build import build as build_flow
    from flows.shard import shard_recipe

    return build_flow(shard_recipe(recipe))


def test_a_judged_build_counts_each_model_and_again_calls_nothing(folder: Path, stub: StubServer) -> None:
    from flows.cli.views import plan_view

    recipe = recipe_for(folder, stub)
    built = build(recipe)
    assert built["dataset"]["counts"]["questions"] == 6
    assert built["calls_by_model"]["judge"].keys() >= {"helpfulness", "notes", "completeness"}
    assert built["calls_by_model"]["policy"].keys() == {"sample"}
    made = {kind: calls["made"] for kind, calls in built["calls"].items()}

    kept = parse_recipe(json.loads(open_store(recipe.store).read(f"plans/{built['plan_id']}/recipe.json")))
    assert kept.judge is not None
    assert kept.judge.endpoints == ()  # its server has ended with the build
    assert kept.policy.endpoints == recipe.policy.endpoints

    again = build(recipe)
    assert sum(calls["made"] for calls in again["calls"].values()) == 0
    assert again["dataset"]["sha256"] == built["dataset"]["sha256"]

    judged = plan_view(recipe)["judge"]  # of finished shards it is known what was asked
    assert {kind: (calls["held"], calls["to_make"]) for kind, calls in judged["calls"].items()} == {
        kind: (made[kind], 0) for kind in ("completeness", "helpfulness", "notes")
    }
    assert judged["cost"]["high"] == 0


def test_a_judge_whose_replies_cannot_be_used_stops_the_build_after_32_of_them(folder: Path, stub: StubServer) -> None:
    settings = recipe_for(folder, stub).model_dump(mode="json")
    settings["sampling"]["samples"] = 16
    settings["scoring"]["scorers"] = [{"scorer": "helpfulness"}, {"scorer": "logicality"}]
    settings["execution"]["task_retries"] = 2
    with running_judge(lambda body: "It is a good answer, is it not?") as judge:
        settings["judge"] = {"name": "stub", "tokenizer": "microworld", "endpoints": [judge.url], "structured": "never"}
        with pytest.raises(JudgeError, match=r"first 32 replies to .*It is a good answer"):
            build(parse_recipe(settings))
        assert len(judge.bodies) <= 64  # at most 32 of each kind; without the trial 960


def test_evaluation_starts_no_judge(folder: Path, stub: StubServer) -> None:
    from flows.evaluate import evaluate_models

    recipe = recipe_for(folder, stub).model_dump(mode="json")
    nothing = folder / "nothing.jsonl"
    nothing.write_text('{"id": "a", "question": "Q?", "context": "C", "answers": []}\n')
    recipe["evaluation"] = {"questions": {"source": str(nothing)}, "contexts": {"build": "given"}}
    with pytest.raises(EvaluationError, match="no question has a reference answer"):
        evaluate_models(parse_recipe(recipe), None, None)
    assert not (Path(recipe["store"]) / "logs" / "judge.log").exists()
