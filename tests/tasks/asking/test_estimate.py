"""What a plan of asking is expected to take."""

from pathlib import Path

from infra.store import open_store
from tasks.asking.estimate import asking_calls, calls_per_question
from tasks.asking.forecast import asking_view
from tasks.asking.planning import make_asking_plan
from tasks.asking.recipes import asking_half
from tests.support.asking import asking_recipe
from tests.tasks.asking.test_planning import write_documents

PRICE = {"input_per_million": 1.0, "output_per_million": 10.0}


def test_checks_that_are_left_out_cost_nothing(tmp_path: Path) -> None:
    checks = {"self_contained": False, "closed_book": 0, "from_proof": False, "answers": 0, "same_answer": "rules"}
    recipe = asking_half(asking_recipe(tmp_path, asking={"kinds": {"single_fact": 1}, "checks": checks, "tries": 0}))
    assert [(calls.kind, calls.count) for calls in asking_calls(recipe)] == [("write", 1.0)]
    assert calls_per_question(recipe) == 1
    assert calls_per_question(asking_half(asking_recipe(tmp_path))) > 8


def test_a_plan_says_what_asking_takes(tmp_path: Path) -> None:
    write_documents(tmp_path)
    recipe = asking_recipe(tmp_path)
    assert recipe.judge is not None
    judge = recipe.judge.model_copy(update={"price": recipe.judge.price.model_validate(PRICE)})
    half = asking_half(recipe.model_copy(update={"judge": judge}))
    store = open_store(half.store)
    view = asking_view(make_asking_plan(half, store), half, store)
    assert view["planned"] == 48
    assert sum(view["kinds"].values()) + sum(view["drops"].values()) == 48
    assert view["calls"]["write"]["to_make"] == sum(view["kinds"].values())
    assert 0 < view["cost"]["low"] < view["cost"]["expected"] < view["cost"]["high"]
    assert view["tokens"]["input"] > 0
    assert "Task: ask-write" in view["first_prompt"]
