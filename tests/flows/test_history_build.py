"""A build over histories, some with tool calls: the server sees messages, pairs are published with them, and their
context is found again."""

import json
from pathlib import Path

import pytest

from flows.bench.common import stub_recipe
from tasks.records.reader import read_dataset
from tasks.reporting.prompt_context import context_in
from tests.support.stub_server import running_stub
from tests.support.tool_template import SCHEMAS, save_tool_tokenizer, trajectory

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect")]


def write_histories(path: Path, count: int) -> None:
    rows = []
    for number in range(count):
        messages = []
        for turn in range(7):  # the last one is the user's
            role = "assistant" if turn % 2 else "user"
            messages.append({"role": role, "content": f"In turn {turn} of {number} the town of Harlow is named."})
        row = {"id": f"q{number}", "messages": messages, "question": "Which town?", "answer": "Harlow"}
        if number % 2:
            row |= {"messages": trajectory(2, f"log {number}"), "tools": SCHEMAS}
        rows.append(row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_histories_are_asked_and_published_as_messages(folder: Path) -> None:
    from flows.build import build
    from flows.shard import shard_recipe

    write_histories(folder / "questions.jsonl", 6)
    with running_stub() as stub:
        recipe = stub_recipe(
            folder,
            stub.url,
            questions={"format": "messages"},
            contexts={"build": "history"},
            policy={"tokenizer": save_tool_tokenizer(folder / "tokenizer")},
            sampling={"samples": 4},
            execution={"shard_size": 3},
        )
        built = build(shard_recipe(recipe))
    counts = built["dataset"]["counts"]
    assert counts["questions"] == 6 == counts["pairs"] + sum(counts["drops"].values())
    pairs = list(read_dataset(built["dataset"]["folder"]).rows("pairs"))
    assert {bool(pair["tools"]) for pair in pairs} == {False, True}
    for pair in pairs:
        roles = [message["role"] for message in pair["prompt"]]
        if pair["tools"]:
            assert roles[:7] == ["user", "assistant", "tool", "tool", "assistant", "tool", "assistant"]
            assert pair["prompt"][1]["tool_calls"][0]["function"]["arguments"] == {"q": "bridge 0", "near": ["mill"]}
            context = context_in(pair["prompt"], pair)
            assert context is not None
            assert context.startswith("[tools that may be called]")
            continue
        assert roles == ["user", "assistant", "user", "assistant", "user", "assistant", "user"]
        assert pair["prompt"][0]["content"].startswith("In turn 0 of")
        context = context_in(pair["prompt"], pair)
        assert context is not None
        assert context.count("is named.") == 7
