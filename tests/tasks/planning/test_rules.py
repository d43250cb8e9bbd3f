"""A plan of today has windows for long texts; one from before them is resumed as it was."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.recipe import Recipe
from infra.store import open_store
from tasks.planning.make_plan import make_plan
from tasks.planning.rules import as_planned, rules_of
from tests.support.planning import small_recipe

ENDPOINT = "http://127.0.0.1:9/v1"


def recipe_of(folder: Path, similarity: str = "embedding", **embedding: Any) -> Recipe:
    rows = [{"id": "g0", "question": "Who?", "context": "x" * 100}]
    scoring = {"scorers": [{"scorer": "consensus", "similarity": similarity}]}
    return small_recipe(folder, rows, scoring=scoring, embedding=embedding)


def test_a_plan_from_before_windows_keeps_its_id_and_cuts_as_it_did(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    plan = make_plan(recipe, open_store(recipe.store))
    assert plan.rules == {"long_texts": "windows"}
    assert as_planned(recipe, plan) == recipe
    earlier = replace(plan, rules={})
    assert as_planned(recipe, earlier).embedding.long_texts == "cut"
    as_before = recipe_of(tmp_path, long_texts="cut")
    cutting = make_plan(as_before, open_store(recipe.store))
    assert cutting.recipe == plan.recipe and cutting.rules == {} and cutting.plan_id != plan.plan_id
    assert as_planned(as_before, plan).embedding.long_texts == "windows"


@pytest.mark.parametrize(
    ("similarity", "embedding", "windows"),
    [
        ("rouge_l", {}, False),
        ("embedding", {"endpoint": ENDPOINT}, False),  # texts are sent whole, as before
        ("embedding", {"endpoint": ENDPOINT, "max_tokens": 512}, True),
        ("embedding", {"long_texts": "refuse"}, False),
    ],
)
def test_a_plan_without_windows_is_the_plan_that_it_was(
    tmp_path: Path, similarity: str, embedding: dict[str, Any], windows: bool
) -> None:
    assert bool(rules_of(recipe_of(tmp_path, similarity, **embedding))) is windows
