"""Builds whose servers have refused: what the same command, `rerun --shards` and `--retry-drops` make again."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.bench.common import stub_recipe
from infra.errors import YieldError
from infra.recipe import Recipe
from infra.store import open_store
from tasks.records.shard import read_reruns
from tests.support.command import Command
from tests.support.judge_replies import running_judge
from tests.support.judged_stub import judge_reply, judged_stub_recipe
from tests.support.stub_server import StubServer, running_stub

FILTERED = "Quisquilia"
LONG, SHORT = 400, 80  # words of a context
BETWEEN = 300  # words that a small window takes


@pytest.fixture
def stub(prefect: None) -> Iterator[StubServer]:
    with running_stub() as server:
        server.options.max_model_len = 100_000
        yield server


@pytest.fixture
def recipe(folder: Path, stub: StubServer) -> Recipe:
    """Eight questions in two shards; of the second one, one is long and one has a word for the filter."""
    rows = []
    for number in range(8):
        words = [f"word{number}x{place}" for place in range(LONG if number == 6 else SHORT)]
        words += [FILTERED] if number == 7 else []
        rows.append(json.dumps({"id": f"q{number}", "question": f"What is {number}?", "context": " ".join(words)}))
    Path("questions.jsonl").write_text("\n".join(rows) + "\n")
    execution: dict[str, Any] = {"shard_size": 4, "attempts": 1, "task_retries": 0, "concurrency": 2}
    execution |= {"max_drop_share": 1.0}
    return stub_recipe(folder, stub.url, sampling={"samples": 4}, pairing={"max_likeness": 1.0}, execution=execution)


def build(recipe: Recipe, **options: Any) -> dict[str, Any]:
    from flows.build import build as build_flow
    from flows.shard import shard_recipe

    return build_flow(shard_recipe(recipe), **options)


def rerun(built: dict[str, Any], **options: Any) -> dict[str, Any]:
    from flows.rerun import rerun as rerun_flow

    return rerun_flow(built["plan_id"], store="store", train=False, **options)


def drops(built: dict[str, Any]) -> dict[str, int]:
    """Drops by reason, without ties, which are the method's."""
    counts: dict[str, int] = dict(built["dataset"]["counts"]["drops"])
    counts.pop("tie", None)
    return counts


def reruns(built: dict[str, Any]) -> list[int]:
    return [read_reruns(open_store("store"), built["plan_id"], index).count for index in range(2)]


def latest() -> str:
    pointer: dict[str, str] = json.loads(open_store("store").read("datasets/bench/latest.json"))
    return pointer["manifest"]


@pytest.mark.slow
def test_the_same_command_asks_again_when_the_window_is_longer(recipe: Recipe, stub: StubServer) -> None:
    stub.options.prompt_limit, stub.options.filter_word = BETWEEN, FILTERED
    first = build(recipe)
    assert drops(first) == {"content_filter": 1, "prompt_too_long": 1}
    assert (stub.requests, stub.answered.total()) == (32, 24)
    assert build(recipe)["dataset"]["sha256"] == first["dataset"]["sha256"]
    assert (stub.requests, reruns(first)) == (32, [0, 0])

    stub.options.prompt_limit, stub.options.max_model_len = 0, 200_000
    mended = build(recipe)
    assert drops(mended) == {"content_filter": 1}
    assert (stub.requests, stub.paid_twice) == (36, 0)
    assert (mended["plan_id"], reruns(mended)) == (first["plan_id"], [0, 1])
    assert mended["dataset"]["manifest"] == latest() != first["dataset"]["manifest"]
    assert build(recipe)["dataset"]["sha256"] == mended["dataset"]["sha256"]
    assert (stub.requests, reruns(mended)) == (36, [0, 1])


@pytest.mark.slow
def test_dropped_questions_alone_are_asked_with_retry_drops(recipe: Recipe, stub: StubServer) -> None:
    stub.options.filter_word = FILTERED
    first = build(recipe)
    stub.options.filter_word = ""
    assert drops(build(recipe)) == drops(rerun(first, failed=False, shards="1")) == {"content_filter": 1}
    assert stub.requests == 32
    retried = rerun(first, retry_drops=True)
    assert drops(retried) == {}
    assert (stub.requests, stub.paid_twice, reruns(first)) == (36, 0, [0, 2])
    assert retried["dataset"]["manifest"] == latest()
    assert rerun(first, retry_drops=True)["dataset"]["sha256"] == retried["dataset"]["sha256"]
    assert (stub.requests, reruns(first)) == (36, [0, 2]), "nothing is refused any more"


@pytest.mark.slow
def test_a_named_shard_runs_its_tasks_again_and_so_does_a_run_that_was_stopped_in_between(
    recipe: Recipe, stub: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.rerun import choose_shards
    from tasks import shard_tasks

    first = build(recipe)
    drawn: list[str] = []
    paired: list[str] = []
    draw, pair = shard_tasks.draw_answers, shard_tasks.pair_example

    def draw_and_count(examples: Any, *more: Any) -> Any:
        drawn.extend(example.example_id for example in examples)
        return draw(examples, *more)

    def pair_and_count(example: Any, *more: Any) -> Any:
        paired.append(example.example_id)
        return pair(example, *more)

    monkeypatch.setattr(shard_tasks, "draw_answers", draw_and_count)
    monkeypatch.setattr(shard_tasks, "pair_example", pair_and_count)
    for _ in range(2):
        again = rerun(first, failed=False, shards="0")
        assert again["dataset"]["sha256"] == first["dataset"]["sha256"]
        assert sorted(drawn) == sorted(paired) == ["q0", "q1", "q2", "q3"]
        drawn.clear()
        paired.clear()
    choose_shards(recipe, first["plan_id"], "0")  # and the process was killed
    build(recipe)
    assert sorted(drawn) == sorted(paired) == ["q0", "q1", "q2", "q3"]
    assert stub.requests == 32


@pytest.mark.slow
def test_a_judge_that_refused_is_asked_again(folder: Path, stub: StubServer) -> None:
    with running_judge(judge_reply, model="judge", max_model_len=500) as judge:
        recipe = judged_stub_recipe(folder, stub, judge, max_drop_share=1.0)
        named = {"judge": recipe.judge and recipe.judge.model_copy(update={"name": "judge"})}
        recipe = recipe.model_copy(update=named)
        judge.options.filter_word = "word4x7 "  # in the prompts of one question
        first = build(recipe)
        assert drops(first) == {"too_few_scored": 1}
        judge.options.filter_word, judge.options.max_model_len = "", 1000
        replies = judge.answered.total()
        assert build(recipe)["dataset"]["sha256"] == first["dataset"]["sha256"]
        assert judge.answered.total() == replies
        retried = build(recipe, retry_drops=True)
        assert drops(retried) == {}
        assert (judge.paid_twice, stub.paid_twice) == (0, 0)
        assert judge.answered.total() > replies
        assert reruns(first) == [0, 1]


@pytest.mark.slow
def test_a_killed_retry_goes_on_without_paying_twice(
    recipe: Recipe,
    stub: StubServer,
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from prefect.settings import PREFECT_API_URL

    stub.options.filter_word = "word"  # in all prompts
    recipe = recipe.model_copy(update={"dataset": recipe.dataset.model_copy(update={"name": "killed"})})
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    with pytest.raises(YieldError, match="never published"):
        build(recipe)
    assert stub.requests == 32
    stub.options.filter_word, stub.options.latency = "", 0.2
    monkeypatch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))
    command = Command(folder, tmp_path_factory.mktemp("home"), "build", "recipe.yaml", "--retry-drops")
    command.when(lambda: stub.answered.total() >= 10).signal(signal.SIGKILL).ended()
    stub.options.latency = 0.0
    answered = stub.answered.total()
    assert 10 <= answered < 32
    built = build(recipe, retry_drops=True)
    assert drops(built) == {}
    assert stub.answered.total() == 32 + stub.paid_twice
    assert stub.paid_twice <= 2, "the calls in flight when it was killed"
