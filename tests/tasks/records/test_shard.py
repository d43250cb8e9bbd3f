"""A shard's record: written once, read whole, and its last failure beside it."""

from dataclasses import replace
from pathlib import Path

import pytest

from infra.errors import ModelError, StoreError
from infra.store import open_store
from tasks.records.example import ANSWER, Answer, from_table, to_table
from tasks.records.shard import (
    ShardResult,
    discard_shard_result,
    forget_failure,
    read_failure,
    read_shard_result,
    write_failure,
    write_shard_result,
)
from tasks.records.table import StoredTable
from tests.support.published import fake_plan, fake_recipe


def shard_of(folder: Path, pairs: int = 1) -> ShardResult:
    store = open_store(str(folder))
    return fake_plan(store, fake_recipe(folder, pairs), shards=1)[1][0]


def test_a_result_is_read_as_it_was_written_and_counts_its_tables(tmp_path: Path) -> None:
    result = shard_of(tmp_path)
    assert read_shard_result(open_store(str(tmp_path)), result.plan_id, 0) == result
    assert ShardResult.from_json(result.to_json()) == result
    assert (result.questions, result.pairs, dict(result.drops)) == (6, 5, {"margin_too_small": 1})
    assert result.files["answers"].rows == 30
    assert result.prompt_tokens == 5 * sum(range(90, 96))


def test_paired_questions_are_told_where_they_are_not_the_pairs(tmp_path: Path) -> None:
    result = shard_of(tmp_path, pairs=3)
    assert (result.pairs, result.paired_questions) == (10, 5)
    assert ShardResult.from_json(result.to_json()) == result
    older = {"questions": 6, "pairs": 5, "drops": {"margin_too_small": 1}}  # of a record from before there were several
    assert ShardResult.from_json(result.to_json() | {"counts": older}).paired_questions == 5


def test_the_first_worker_to_finish_is_the_record(tmp_path: Path) -> None:
    result = shard_of(tmp_path)
    store = open_store(str(tmp_path))
    write_shard_result(store, replace(result, completion_tokens=1))
    assert read_shard_result(store, result.plan_id, 0) == result
    discard_shard_result(store, result.plan_id, 0)
    assert read_shard_result(store, result.plan_id, 0) is None


def test_a_failure_is_shown_until_the_shard_runs_again(tmp_path: Path) -> None:
    result = shard_of(tmp_path)
    store = open_store(str(tmp_path))
    assert read_failure(store, result.plan_id, 0) is None
    write_failure(store, result.plan_id, 0, ModelError("the endpoint is away"))
    assert read_failure(store, result.plan_id, 0) == "ModelError: the endpoint is away"
    forget_failure(store, result.plan_id, 0)
    assert read_failure(store, result.plan_id, 0) is None


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"shard": 0}', b"\xff\xfe"])
def test_a_damaged_record_stops_with_the_command_that_mends_it(tmp_path: Path, damage: bytes) -> None:
    result = shard_of(tmp_path)
    store = open_store(str(tmp_path))
    store.write(f"plans/{result.plan_id}/shards/0000.json", damage)
    with pytest.raises(StoreError, match=f"longmill rerun {result.plan_id} --shards 0"):
        read_shard_result(store, result.plan_id, 0)


def test_a_table_with_other_bytes_is_refused(tmp_path: Path) -> None:
    result = shard_of(tmp_path)
    store = open_store(str(tmp_path))
    store.write(result.files["pairs"].path, store.read(result.files["drops"].path))
    with pytest.raises(StoreError, match="not those that were written"):
        result.files["pairs"].read_checked(store)


def test_tokens_of_reasoning_are_in_the_record_where_an_answer_has_some(tmp_path: Path) -> None:
    result = shard_of(tmp_path)
    assert result.reasoning_tokens is None
    assert "reasoning" not in result.to_json()["tokens"]
    store = open_store(str(tmp_path))
    answers = from_table(result.files["answers"].read_checked(store), Answer)
    answers[3] = replace(answers[3], reasoning="Hm.", reasoning_tokens=4)
    files = {**result.files, "answers": StoredTable.put(store, "answers", to_table(answers, ANSWER))}
    thought = ShardResult.of(store, result.plan_id, 0, result.questions, files)
    assert thought.reasoning_tokens == 4
    assert ShardResult.from_json(thought.to_json()) == thought
