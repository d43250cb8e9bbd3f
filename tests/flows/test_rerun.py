"""Re-running shards: from which step on, in which store, and that no reply is paid for twice."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.bench.common import stub_recipe, write_questions
from flows.rerun import choose_shards, recipe_for
from infra.errors import InputError, RecipeError, StoreError
from infra.recipe import Recipe
from infra.store import open_store
from tasks.planning.make_plan import make_plan
from tasks.records.plan import recipe_path
from tasks.records.shard import read_reruns, read_shard_result
from tests.support.stub_server import StubServer, running_stub


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with running_stub() as server:
        yield server


def recipe_in(folder: Path, url: str = "http://127.0.0.1:9/v1") -> Recipe:
    write_questions(folder / "questions.jsonl", 6, 300)
    execution = {"shard_size": 3, "attempts": 1, "task_retries": 0}
    return stub_recipe(folder, url, execution=execution, sampling={"samples": 4})


def rerun(plan_id: str, **options: Any) -> dict[str, Any]:
    from flows.rerun import rerun as rerun_flow

    return rerun_flow(plan_id, **{"train": False, **options})


@pytest.mark.slow
@pytest.mark.usefixtures("prefect")
def test_a_rerun_from_a_step_takes_over_what_is_before_it_and_gives_the_same_dataset(
    folder: Path, stub: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import shard as shard_module
    from flows.build import build

    recipe = recipe_in(folder, stub.url)
    first = build(recipe)
    plan_id, calls = first["plan_id"], stub.stats()["requests"]
    scored: list[int] = []
    score = shard_module.score_by_recipe
    monkeypatch.setattr(shard_module, "score_by_recipe", lambda *each: scored.append(1) or score(*each))  # type: ignore[func-returns-value]
    drawn: list[int] = []
    from tasks import shard_tasks

    draw = shard_tasks.draw_answers
    monkeypatch.setattr(shard_tasks, "draw_answers", lambda *each: drawn.append(1) or draw(*each))  # type: ignore[func-returns-value]
    store = recipe.store
    again = rerun(plan_id, store=store, shards="0", from_step="pair")
    assert (len(scored), len(drawn)) == (0, 0)
    assert again["dataset"]["sha256"] == first["dataset"]["sha256"]
    again = rerun(plan_id, store=store, shards="all", from_step="score")
    assert (len(scored) >= 2, len(drawn)) == (True, 0)
    assert again["dataset"]["sha256"] == first["dataset"]["sha256"]
    again = rerun(plan_id, store=store, shards="1")
    assert len(drawn) >= 1
    assert again["dataset"]["sha256"] == first["dataset"]["sha256"]
    assert stub.stats()["requests"] == calls

    files = open_store(store)
    result = read_shard_result(files, plan_id, 0)
    assert result is not None
    files.delete(result.files["judgements"].path)
    with pytest.raises(StoreError, match=r"shard 0 cannot begin with pair: .*missing; say --from score"):
        rerun(plan_id, store=store, shards="0", from_step="pair")
    assert read_shard_result(files, plan_id, 0) is not None  # nothing was put aside
    again = rerun(plan_id, store=store, shards="0", from_step="score")
    assert files.exists(result.files["judgements"].path)
    assert again["dataset"]["sha256"] == first["dataset"]["sha256"]


def test_shards_without_a_result_take_nothing_over(folder: Path) -> None:
    recipe = recipe_in(folder)
    plan = make_plan(recipe, open_store(recipe.store))
    assert choose_shards(recipe, plan.plan_id, "all", "pair") == [0, 1]
    assert read_reruns(open_store(recipe.store), plan.plan_id, 0).tables == {}
    with pytest.raises(InputError, match="has shards 0 to 1; it has no 7"):
        choose_shards(recipe, plan.plan_id, "0,7")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"failed": False}, "say --failed, or --shards"),
        ({"from_step": "score"}, r"--from score is for finished shards: say which, --shards 3,7-9 or all"),
        ({"from_step": "pair", "shards": "1", "retry_drops": True}, "does not go with --from pair"),
    ],
)
def test_options_that_contradict_one_another_are_named(options: dict[str, Any], message: str) -> None:
    from flows.rerun import rerun as rerun_flow

    with pytest.raises(RecipeError, match=message):
        rerun_flow.fn("36d67029", **options)


def test_a_plan_is_found_by_store_by_recipe_or_by_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_in(folder)
    store = open_store(recipe.store)
    plan = make_plan(recipe, store)
    recorded = recipe.model_copy(update={"store": "where/it/was"})  # a store that was moved since
    store.write(recipe_path(plan.plan_id), json.dumps(recorded.model_dump(mode="json")).encode())
    (folder / "recipe.yaml").write_text(json.dumps(recipe.model_dump(mode="json")))
    prefix = plan.plan_id[:6]
    with pytest.raises(InputError) as error:
        recipe_for(prefix, "", "")
    assert f"longmill rerun {prefix} --failed --store s3://BUCKET/PREFIX, or --recipe FILE" in str(error.value)
    assert recipe_for(prefix, recipe.store, "").store == recipe.store
    assert recipe_for(prefix, "", "recipe.yaml").store == recipe.store
    monkeypatch.setenv("LONGMILL_STORE", recipe.store)
    assert recipe_for(prefix, "", "").store == recipe.store


def test_a_plan_that_was_never_built_needs_a_recipe(folder: Path) -> None:
    recipe = recipe_in(folder)
    plan = make_plan(recipe, open_store(recipe.store))
    with pytest.raises(InputError, match=r"never built.*--recipe"):
        recipe_for(plan.plan_id, recipe.store, "")
