"""Reasoning in a published dataset: columns of its own, the same in all files, which training reads."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from infra.errors import TrainingError
from infra.store import Store, open_store
from tasks.publishing import publish
from tasks.records.example import ANSWER, Answer, from_table, to_table
from tasks.records.shard import ShardResult
from tasks.records.table import StoredTable
from tasks.training.published import read_train_split
from tests.support.published import fake_plan, fake_recipe

pytestmark = pytest.mark.medium


def with_reasoning(store: Store, result: ShardResult) -> ShardResult:
    """A shard whose answers were thought about, two tokens each."""
    answers = []
    for answer in from_table(result.files["answers"].read_checked(store), Answer):
        thought = replace(answer, reasoning=f"Hm, {answer.sample_index}.", reasoning_tokens=2)
        answers.append(replace(thought, completion_tokens=answer.completion_tokens + 2))
    table = StoredTable.put(store, f"plans/{result.plan_id}/shards/thought", to_table(answers, ANSWER))
    return ShardResult.of(store, result.plan_id, result.shard, result.questions, {**result.files, "answers": table})


def columns_by_config(folder: Path) -> dict[str, set[tuple[str, ...]]]:
    columns: dict[str, set[tuple[str, ...]]] = {}
    for path in sorted(folder.rglob("*.parquet")):
        names = tuple(pq.read_schema(path).names)
        columns.setdefault(path.relative_to(folder).parts[0], set()).add(names)
    return columns


def published(tmp_path: Path, thinks: tuple[bool, bool]) -> tuple[Store, Any, Path]:
    store = open_store(str(tmp_path / "mill"))
    recipe = fake_recipe(tmp_path / "mill", test_fraction=0.0)
    plan, results = fake_plan(store, recipe)
    for place, result in enumerate(results):
        if thinks[place]:
            results[place] = with_reasoning(store, result)
    dataset = publish(plan, results, recipe, store)
    return store, dataset, tmp_path / "mill" / dataset.path


def test_all_files_have_the_columns_when_one_shard_has_reasoning(tmp_path: Path) -> None:
    store, dataset, folder = published(tmp_path, (False, True))
    columns = columns_by_config(folder)
    assert {config: len(names) for config, names in columns.items()} == {"data": 1, "evidence": 1, "drops": 1}
    assert next(iter(columns["evidence"]))[-2:] == ("reasoning", "reasoning_tokens")
    assert "chosen_reasoning_tokens" in next(iter(columns["data"]))
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "| chosen_reasoning, rejected_reasoning | what the model has thought" in card
    pairs = list(read_train_split(store, dataset.manifest, with_reasoning=True).pairs())
    thought = ["reasoning_content" in pair["chosen"][0] for pair in pairs]
    assert {*thought} == {False, True}
    assert all("Hm" not in pair["chosen"][0]["content"] for pair in pairs)


def test_lengths_are_those_of_the_answers_alone(tmp_path: Path) -> None:
    _, _, plain = published(tmp_path / "plain", (False, False))
    _, _, thought = published(tmp_path / "thought", (True, True))
    columns = ["chosen_tokens", "rejected_tokens", "margin"]
    for path in (plain / "data").rglob("*.parquet"):
        (other,) = (thought / "data").rglob(f"{path.name[:4]}-*.parquet")
        assert pq.read_table(path, columns=columns) == pq.read_table(other, columns=columns)
    assert (plain / "summary.json").read_bytes() == (thought / "summary.json").read_bytes()


def test_a_dataset_without_reasoning_has_no_columns_and_cannot_be_trained_with_it(tmp_path: Path) -> None:
    store, dataset, folder = published(tmp_path, (False, False))
    assert "reasoning" not in str(columns_by_config(folder))
    assert "reasoning" not in (folder / "README.md").read_text(encoding="utf-8")
    with pytest.raises(TrainingError, match=r"training\.reasoning is keep, and the dataset fake has no reasoning"):
        list(read_train_split(store, dataset.manifest, with_reasoning=True).pairs())
