"""A build over histories: the server sees messages, pairs are published with them, and their context is found again."""

import json
from pathlib import Path

import pytest

from flows.bench.common import stub_recipe
from tasks.records.reader import read_dataset
from tasks.reporting.prompt_context import context_in
from tests.support.stub_server import running_stub

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect")]


def write_histories(path: Path, count: int) -> None:
    rows = []
    for number in range(count):
        messages = []
        for turn in range(7):  # the last one is the user's
            role = "assistant" if turn % 2 else "user"
            messages.append({"role": role, "content": f"In turn {turn} of {number} the town of Harlow is named."})
        rows.append({"id": f"q{number}", "messages": messages, "question": "Which town?", "answer": "Harlow"})
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
            sampling={"samples": 4},
            execution={"shard_size": 3},
        )
        built = build(shard_recipe(recipe))
    counts = built["dataset"]["counts"]
    assert counts["questions"] == 6 == counts["pairs"] + sum(counts["drops"].values())
    pairs = list(read_dataset(built["dataset"]["folder"]).rows("pairs"))
    assert pairs
    for pair in pairs:
        roles = [message["role"] for message in pair["prompt"]]
        assert roles == ["user", "assistant", "user", "assistant", "user", "assistant", "user"]
        assert pair["prompt"][0]["content"].startswith("In turn 0 of")
        context = context_in(pair["prompt"], pair)
        assert context is not None
        assert context.count("is named.") == 7
