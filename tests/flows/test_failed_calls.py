"""A build over a question on which the server always breaks: it is named, and left out when a person says so."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.bench.common import stub_recipe
from infra.errors import LongmillError
from tests.support.stub_server import running_stub

BROKEN = "Quisquilia"

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect")]


def test_a_question_that_always_fails_is_named_and_can_be_left_out(folder: Path) -> None:
    from flows.build import build
    from flows.rerun import rerun
    from flows.shard import shard_recipe

    rows = []
    for number in range(8):
        words = [f"word{number}x{place}" for place in range(60)] + ([BROKEN] if number == 5 else [])
        rows.append(json.dumps({"id": f"q{number}", "question": f"What is {number}?", "context": " ".join(words)}))
    Path("questions.jsonl").write_text("\n".join(rows) + "\n")
    execution: dict[str, Any] = {"shard_size": 4, "attempts": 1, "task_retries": 0, "max_drop_share": 0.5}
    with running_stub(broken_word=BROKEN) as stub:
        recipe = stub_recipe(
            folder, stub.url, sampling={"samples": 4}, pairing={"max_likeness": 1.0}, execution=execution
        )
        with pytest.raises(LongmillError, match=r"(?s)1 of 2 shards failed.*question q5.*") as raised:
            build(shard_recipe(recipe))
        message = str(raised.value)
        assert "4 calls failed after all attempts" in message
        assert stub.url in message and "EngineCore" in message and "--drop-failed" in message
        plan_id = next(Path("store/plans").iterdir()).name
        with pytest.raises(LongmillError, match="question q5"):
            rerun(plan_id, "store", train=False)
        published = rerun(plan_id, "store", train=False, drop_failed=True)
        counts = published["dataset"]["counts"]["drops"]
        assert counts["failed"] == 1
        requests = stub.requests
        assert rerun(plan_id, "store", train=False)["dataset"]["sha256"] == published["dataset"]["sha256"]
        assert stub.requests == requests
        kept = json.loads(Path(f"store/plans/{plan_id}/recipe.json").read_text())
        assert kept["execution"]["drop_failed"] is False
        stub.options.broken_word = ""
        mended = rerun(plan_id, "store", train=False, retry_drops=True)
        assert "failed" not in mended["dataset"]["counts"]["drops"]
        assert stub.requests == requests + 4
