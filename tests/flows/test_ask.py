"""The flow `ask`, whole, against a stub that replies by the rules of the generated world."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from flows.bench.stub_server import chat_response
from infra.errors import BudgetReached, LongmillError, YieldError
from infra.recipe import Recipe
from infra.store import open_store
from tasks.microworld.rule_judge import UnknownTask, judge
from tasks.microworld.world import make_world, write_documents
from tasks.records.manifest import verify_manifest
from tasks.records.reader import read_dataset
from tests.support.asking import asking_recipe
from tests.support.stub_server import StubServer, running_stub

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect")]

KINDS = {"single_fact": 2, "across_documents": 1, "unanswerable": 1}


class WorldStub(StubServer):
    """Writes and answers by rules where the prompt is a task, else as the stub does."""

    def _answer(self, raw: bytes, body: dict[str, Any], content: str) -> web.Response:
        try:
            text = judge(content).text
        except UnknownTask:
            return super()._answer(raw, body, content)
        return chat_response(raw, {**body, "max_tokens": 2**20}, content, text)


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with running_stub(make=WorldStub) as server:
        yield server


def recipe_for(folder: Path, stub: StubServer, **sections: Any) -> Recipe:
    """A recipe over the documents of a small world, in four shards."""
    (folder / "documents").mkdir(exist_ok=True)
    for document in write_documents(make_world("ask", 8, "train")):
        (folder / "documents" / f"{document.title}.txt").write_text(document.text)
    judge_settings = {"name": "stub", "tokenizer": "microworld", "endpoints": [stub.url], "prompts": "terse"}
    defaults: dict[str, Any] = {
        "documents": {"source": str(folder / "documents"), "min_characters": 100, "near_duplicates": None},
        "asking": {"kinds": KINDS, "per_document": 1, "min_span_tokens": 32, "max_span_tokens": 256, "tries": 2},
        "judge": {**judge_settings, "structured": "never"},
        "execution": {"shard_size": 8, "batch_calls": 8, "attempts": 2, "task_retries": 0},
        "dataset": {"name": "world", "licence": "mit", "test_fraction": 0.3},
    }
    return asking_recipe(folder, stub.url, **(defaults | sections))


def ask(recipe: Recipe, **which: Any) -> dict[str, Any]:
    from flows.ask import ask as ask_flow

    return ask_flow(recipe, **which)


def check_folder(published: Path, cache: Path, counts: dict[str, Any]) -> None:
    """Assert that `datasets` reads the folder, and that its card and summary say what it is."""
    from datasets import load_dataset

    rows = load_dataset(str(published), cache_dir=str(cache))
    assert sum(len(split) for split in rows.values()) == counts["questions"]
    card = (published / "README.md").read_text()
    for part in ("| write |", "| across_documents |", "| for each question |", "mean difficulty"):
        assert part in card
    assert json.loads((published / "summary.json").read_text())["counts"] == counts


def test_questions_are_published_with_proof_and_the_same_command_again_calls_nothing(
    folder: Path, stub: StubServer
) -> None:
    recipe = recipe_for(folder, stub)
    first = ask(recipe)
    counts = first["dataset"]["counts"]
    assert counts["questions"] > 5
    assert counts["planned"] == counts["questions"] + sum(counts["drops"].values())
    verify_manifest(open_store(recipe.store), first["dataset"]["manifest"])
    rows = list(read_dataset(first["dataset"]["folder"]).rows("questions"))
    assert len(rows) == counts["questions"] == sum(first["dataset"]["splits"].values())
    assert len({row["id"] for row in rows}) == len(rows)
    sides: dict[str, set[str]] = {}
    for row in rows:
        for span in row["evidence"]:
            text = row["documents"][span["document"]]["text"]
            assert text[span["start"] : span["end"]] == span["sentence"]
        assert bool(row["evidence"]) == (row["kind"] != "unanswerable") == bool(row["answers"])
        assert row["tries"] == 2
        for source in row["sources"]:
            sides.setdefault(source["document_id"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in sides.values())  # no document is on both sides
    check_folder(Path(first["dataset"]["folder"]), folder / "cache", counts)
    drops = list(read_dataset(first["dataset"]["folder"]).rows("drops"))
    assert len(drops) == sum(counts["drops"].values())
    requests = stub.stats()["requests"]
    again = ask(recipe)
    assert stub.stats()["requests"] == requests == stub.stats()["distinct"]
    assert sum(calls["made"] for calls in again["calls"].values()) == 0
    assert again["dataset"]["sha256"] == first["dataset"]["sha256"]
    assert first["bill"]["models"]["judge"]["calls"]["planned"] > 0


def test_the_size_of_shards_and_the_store_decide_on_no_question(folder: Path, stub: StubServer) -> None:
    recipe = recipe_for(folder, stub)
    execution = recipe.execution.model_copy(update={"shard_size": 40})
    coarse = recipe.model_copy(update={"execution": execution, "store": str(folder / "other")})
    questions = []
    for each in (recipe, coarse):
        built = ask(each)
        assert built["dataset"]["counts"]["drops"]["near_duplicate"] > 0
        dataset = read_dataset(built["dataset"]["folder"])
        questions.append(sorted((row["id"], row["question"]) for row in dataset.rows("questions")))
    assert questions[0] == questions[1]


def test_a_budget_stops_asking_and_counts_what_finished_shards_have_cost(folder: Path, stub: StubServer) -> None:
    execution = {"shard_size": 8, "batch_calls": 8, "task_retries": 0, "shards_in_flight": 1}
    with pytest.raises(BudgetReached, match=r"budget\.calls"):
        ask(recipe_for(folder, stub, budget={"calls": 100}, execution=execution))
    assert stub.stats()["requests"] == 100
    with pytest.raises(BudgetReached):
        ask(recipe_for(folder, stub, budget={"calls": 100}, execution=execution))
    assert stub.stats()["requests"] < 150  # the calls of a shard that is not finished count when it needs them again
    built = ask(recipe_for(folder, stub, execution=execution))
    assert built["dataset"]["counts"]["questions"] > 0
    assert stub.stats()["requests"] == stub.stats()["distinct"]


def test_a_failed_shard_can_be_run_again_by_the_plans_id(folder: Path, stub: StubServer) -> None:
    from flows.cli.plan_state import plan_status
    from flows.rerun import rerun

    recipe = recipe_for(folder, stub)
    stub.options.script = ["ok"] * 30 + ["500"] * 1000
    with pytest.raises(LongmillError, match="longmill rerun"):
        ask(recipe)
    (state,) = plan_status(recipe.store, "")
    assert "failed" in {each["state"] for each in state["shards"]}
    stub.options.script.clear()
    built = rerun(state["plan_id"][:6], store=recipe.store, train=False)
    assert built["dataset"]["counts"]["questions"] > 5
    again = rerun(state["plan_id"], store=recipe.store, failed=False, shards="0,1", train=False)
    assert again["dataset"]["sha256"] == built["dataset"]["sha256"]
    assert stub.stats()["answered"] == stub.stats()["distinct"]


def test_refused_questions_are_asked_again_with_retry_drops(folder: Path, stub: StubServer) -> None:
    recipe = recipe_for(folder, stub, execution={"shard_size": 80, "task_retries": 0, "max_drop_share": 1})
    title = sorted(path.stem for path in (folder / "documents").iterdir())[0]

    class Filtering(WorldStub):
        def _answer(self, raw: bytes, body: dict[str, Any], content: str) -> web.Response:
            if f"<document>\n{title}\n" in content and "ask-write" in content and self.options.filter_word:
                error = {"message": "The prompt was filtered.", "code": "content_filter", "type": "content_filter"}
                return web.json_response({"error": error}, status=400)
            return super()._answer(raw, body, content)

    with running_stub(make=Filtering, filter_word="never in a text") as filtering:
        recipe = recipe_for(folder, filtering, execution={"shard_size": 80, "task_retries": 0, "max_drop_share": 1})
        first = ask(recipe)
        assert first["dataset"]["counts"]["drops"]["no_question"] > 0
        filtering.options.filter_word = ""
        again = ask(recipe, retry_drops=True)
    assert "no_question" not in again["dataset"]["counts"]["drops"]


def test_a_writer_that_writes_nothing_stops_the_run_and_says_what_to_do(folder: Path, stub: StubServer) -> None:
    prose = {"judge": {"name": "stub", "tokenizer": "microworld", "endpoints": [stub.url], "structured": "never"}}
    recipe = recipe_for(folder, stub, **prose, execution={"shard_size": 8, "task_retries": 0, "judge_trial": 0})
    with pytest.raises(YieldError, match=r"no_question.*hold no question in JSON"):
        ask(recipe)


def test_another_recipe_builds_pairs_over_the_questions(folder: Path, stub: StubServer) -> None:
    from flows.ask import with_questions
    from flows.build import build
    from flows.shard import shard_recipe

    recipe = recipe_for(folder, stub)
    half = with_questions(recipe)
    built = build(shard_recipe(half))
    train = [row for row in read_dataset(half.questions.source).rows("questions") if row["split"] == "train"]
    assert built["dataset"]["counts"]["questions"] == len(train)
    latest = half.model_copy(
        update={"questions": half.questions.model_copy(update={"source": f"{recipe.store}/datasets/world-questions"})}
    )
    assert build(shard_recipe(latest))["dataset"]["sha256"] == built["dataset"]["sha256"]
    row = next(iter(read_dataset(built["dataset"]["folder"]).rows("pairs")))
    assert row["references"] or row["kind"] == "unanswerable"
