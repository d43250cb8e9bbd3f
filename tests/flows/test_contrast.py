"""A build whose pairs are a stronger model's answers over the policy's, whole, against two stub servers."""

from pathlib import Path

import pytest

from flows.bench.common import stub_recipe, write_questions
from flows.build import build
from flows.shard import shard_recipe
from infra.store import open_store
from tests.support.stub_server import running_stub


@pytest.mark.slow
@pytest.mark.usefixtures("prefect")
def test_a_contrast_build_asks_the_stronger_model_once_a_question_and_chooses_it(folder: Path) -> None:
    write_questions(folder / "questions.jsonl", 12, 600)
    with running_stub() as policy, running_stub(model="big") as strong:
        recipe = stub_recipe(
            folder,
            policy.url,
            execution={"shard_size": 5, "batch_calls": 8, "attempts": 2, "task_retries": 0},
            sampling={"samples": 4},
            strong={"name": "big", "tokenizer": "microworld", "endpoints": [strong.url]},
            pairing={"rule": "contrast"},
        )
        first = build(shard_recipe(recipe))
        asked = policy.stats()["requests"], strong.stats()["requests"]
        again = build(shard_recipe(recipe))
        assert (policy.stats()["requests"], strong.stats()["requests"]) == asked == (48, 12)
    assert (first["calls"]["sample"]["made"], first["calls"]["strong"]["made"]) == (48, 12)
    assert (again["calls"]["sample"]["reused"], again["calls"]["strong"]["reused"]) == (48, 12)
    assert again["dataset"]["sha256"] == first["dataset"]["sha256"]
    counts = first["dataset"]["counts"]
    assert counts["questions"] == 12 == counts["pairs"] + sum(counts["drops"].values())
    store = open_store(recipe.store)
    rows = [
        row
        for path in store.list("datasets")
        if "/data/" in path and path.endswith(".parquet")
        for row in store.read_table(path, ["chosen_index", "rejected_index", "model", "chosen_reward"]).to_pylist()
    ]
    assert len(rows) == counts["pairs"] > 0
    assert {(row["chosen_index"], row["model"], row["chosen_reward"]) for row in rows} == {(-2, "big over stub", 1.0)}
    assert {row["rejected_index"] for row in rows} <= {0, 1, 2, 3}
