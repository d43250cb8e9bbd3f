"""Builds against servers that refuse: what stops, what is published, and that the same command goes on afterwards."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from aiohttp import web

from flows.bench.common import stub_recipe, write_questions
from flows.bench.stub_server import completion, stub_answer
from infra.errors import RefusedError
from infra.recipe import Recipe
from tests.providers.cases import ACCOUNT, FORM_CASES, RefusalCase
from tests.support.stub_server import StubOptions, StubServer, running_stub

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect")]

LONG = "What is 0?"  # of the prompts that are too long


class RefusingStub(StubServer):
    """Refuses as `case` says after `good` replies; a prompt with LONG is always too long."""

    def __init__(self, options: StubOptions) -> None:
        super().__init__(options)
        self.case: RefusalCase | None = None
        self.good = 0
        self.fragments = False

    def _answer(self, raw: bytes, body: dict[str, Any], content: str) -> web.Response:
        if self.case is not None and sum(self.answered.values()) >= self.good:
            return web.Response(status=self.case.status, body=self.case.raw)
        if LONG in content:
            return web.json_response({"error": {"message": "prompt is too long: 9 tokens > 8 maximum"}}, status=400)
        answer = stub_answer(content, body["seed"])
        reply = completion(body["model"], answer, 2**20, raw, len(content.split()))
        if self.fragments and body["seed"] % 3 == 0:
            reply["choices"][0] |= {"message": {"role": "assistant", "content": answer[:9]}, "finish_reason": "abort"}
        return web.json_response(reply)


def build(recipe: Recipe) -> dict[str, Any]:
    from flows.build import build as build_flow
    from flows.shard import shard_recipe

    return build_flow(shard_recipe(recipe))


def recipe_for(folder: Path, stub: StubServer) -> Recipe:
    questions = folder / "questions.jsonl"
    write_questions(questions, 12, 300)
    first, *others = questions.read_text(encoding="utf-8").splitlines()
    questions.write_text("\n".join([json.dumps(json.loads(first) | {"question": LONG}), *others]), encoding="utf-8")
    execution: dict[str, Any] = {"shard_size": 6, "batch_calls": 8, "attempts": 3, "task_retries": 1, "concurrency": 2}
    execution |= {"max_drop_share": 1.0, "max_shard_drop_share": 1.0}  # this is not about the gate
    return stub_recipe(folder, stub.url, sampling={"samples": 4}, execution=execution)


@pytest.mark.parametrize("case", [ACCOUNT[8], FORM_CASES[0]], ids=lambda case: case.subject)
def test_a_refusal_of_all_calls_stops_the_build_and_the_same_command_goes_on(folder: Path, case: RefusalCase) -> None:
    with running_stub(make=RefusingStub) as stub:
        assert isinstance(stub, RefusingStub)
        recipe = recipe_for(folder, stub)
        stub.case, stub.good = case, 20
        with pytest.raises(RefusedError, match=case.words):
            build(recipe)
        # The replies, the four calls that are too long, and what each of the twelve spans, which come to the client one
        # after the other, has in flight when it hears of the refusal. Without a stop it would be 20 + 4 + 28 × 3.
        assert stub.requests <= 20 + 4 + 12 * 2
        assert not list((folder / "store").glob("datasets/*/latest.json"))
        stub.case = None
        built = build(recipe)
        assert stub.paid_twice == 0
    assert built["dataset"]["counts"]["drops"]["prompt_too_long"] == 1
    assert sum(built["dataset"]["counts"]["drops"].values()) + built["dataset"]["counts"]["pairs"] == 12
    dataset = folder / "store" / Path(built["dataset"]["manifest"]).parent
    drops = [row for path in (dataset / "drops").rglob("*.parquet") for row in pq.read_table(path).to_pylist()]
    (long,) = [drop for drop in drops if drop["reason"] == "prompt_too_long"]
    assert long["detail"] == "prompt_too_long: 4; “prompt is too long: 9 tokens > 8 maximum”"
    rows = [row for path in (dataset / "evidence").rglob("*.parquet") for row in pq.read_table(path).to_pylist()]
    refused = [row for row in rows if row["finish_reason"] == "prompt_too_long"]
    assert len(refused) == 4
    for row in refused:
        assert json.loads(row["judgements"][0]["evidence"])["refusal"].startswith("prompt is too long")


def test_a_fragment_is_in_no_pair(folder: Path) -> None:
    with running_stub(make=RefusingStub) as stub:
        assert isinstance(stub, RefusingStub)
        stub.fragments = True
        built = build(recipe_for(folder, stub))
    dataset = folder / "store" / Path(built["dataset"]["manifest"]).parent
    rows = [row for path in (dataset / "evidence").rglob("*.parquet") for row in pq.read_table(path).to_pylist()]
    aborted = [row for row in rows if row["finish_reason"] == "abort"]
    assert len(aborted) > 4
    assert not any(row["is_chosen"] or row["is_rejected"] or row["text"] for row in aborted)
    assert built["dataset"]["counts"]["pairs"] > 0
