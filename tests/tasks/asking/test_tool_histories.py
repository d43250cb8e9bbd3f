"""Questions about histories with tool calls: rows hold the calls as messages, which a recipe over them reads again."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.recipe import Recipe
from infra.store import open_store
from tasks.asking.planning import make_asking_plan
from tasks.asking.publishing import HISTORY_ROWS, TOOL_ROWS, question_row, row_schema
from tasks.asking.recipes import asking_half
from tasks.asking.writing import IntendedQuestion
from tasks.questions import RawQuestion, read_questions
from tasks.questions.chat import chat_turns, join_messages
from tasks.questions.messages import history_of
from tasks.questions.question import SourceRow
from tasks.questions.sessions import flat_turns
from tasks.records.plan import Plan, load_shard
from tasks.records.question import WrittenQuestion
from tests.support.asking import asking_recipe
from tests.support.tool_template import SCHEMAS, asks, call, result, trajectory

DATED = [{**message, "timestamp": f"10:0{place}"} for place, message in enumerate(trajectory(1))]
BROKEN = [*trajectory(2), {"role": "user", "content": "Go on."}, asks(call("z", "read", "{page"))]
EMPTY = [*trajectory(1)[:2], asks(call("e", "search", {})), result("e", ""), *trajectory(1)[2:]]
EMPTY_AND_DATED = [{**message, "timestamp": f"10:0{place}"} for place, message in enumerate(EMPTY)]


def planned(folder: Path, messages: list[dict[str, Any]], tools: str) -> tuple[Plan, Recipe, list[IntendedQuestion]]:
    (folder / "documents").mkdir(exist_ok=True)
    row = {"id": "log", "messages": messages, "tools": SCHEMAS}
    (folder / "documents" / "log.jsonl").write_text(json.dumps(row) + "\n")
    asking = {"kinds": {"failure_cause": 1}, "per_document": 1, "min_span_tokens": 16}
    recipe = asking_half(asking_recipe(folder, asking=asking, contexts={"tools": tools}))
    store = open_store(recipe.store)
    plan = make_asking_plan(recipe, store)
    examples, contexts = load_shard(store, plan, 0)
    return plan, recipe, [IntendedQuestion.of(example, contexts[example.context_id]) for example in examples]


def read_back(folder: Path, plan: Plan, recipe: Recipe, intended: IntendedQuestion, schema: pa.Schema) -> RawQuestion:
    evidence = ()
    question = WrittenQuestion("q", "c", "Which step failed?", ("none",), "failure_cause", "en", evidence, 0.5, 4)
    row = question_row(question, intended, recipe, plan.plan_id)
    path = folder / "published.parquet"
    pq.write_table(pa.Table.from_pylist([row], schema=schema), path)
    (read,) = read_questions(recipe.questions.model_copy(update={"source": str(path)}), "history")
    assert isinstance(read, RawQuestion)
    return read


@pytest.mark.parametrize("messages", [trajectory(2), DATED, BROKEN, EMPTY, EMPTY_AND_DATED])
def test_rows_hold_calls_and_results_that_are_read_as_the_same_messages(tmp_path: Path, messages: Any) -> None:
    plan, recipe, (intended,) = planned(tmp_path, messages, "auto")
    assert row_schema(plan) == TOOL_ROWS
    read = read_back(tmp_path, plan, recipe, intended, TOOL_ROWS)
    [first] = history_of(SourceRow("log.jsonl", 1, {"messages": messages, "tools": SCHEMAS}))
    [again] = read.sessions
    assert again.tools == first.tools
    flat = [turn.text for turn in flat_turns(again, "en")]
    assert flat == [turn.text for turn in flat_turns(first, "en")]
    assert [intended.places[0].text[turn.start : turn.end] for turn in intended.places[0].turns] == flat
    both = []
    for session in (first, again):
        turns = [turn.message for turn in chat_turns(session, "en", with_tools=True)]
        both.append(join_messages(turns, "en")[0])
    assert both[0] == both[1]
    assert any("tool_calls" in message for message in both[0])


def test_tool_calls_as_text_make_the_plan_and_rows_of_earlier_versions(tmp_path: Path) -> None:
    plan, recipe, (intended,) = planned(tmp_path, trajectory(2), "text")
    assert row_schema(plan) == HISTORY_ROWS
    assert not any(turn.tool_use for turn in intended.places[0].turns)
    read = read_back(tmp_path, plan, recipe, intended, HISTORY_ROWS)
    assert not any(turn.calls for turn in read.sessions[0].turns)
    store = open_store(recipe.store)
    stored = json.loads(store.read(f"plans/{plan.plan_id}/plan.json"))
    assert stored["rules"] == {"rows": "histories"}
    examples, _ = load_shard(store, plan, 0)
    assert "tool_use" not in examples[0].metadata
