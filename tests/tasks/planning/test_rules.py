"""The rules that a plan was made with hold when it is resumed, whatever the recipe's defaults mean today."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.recipe import Embedding, Recipe
from infra.store import open_store
from tasks.planning.make_plan import make_plan
from tasks.planning.rules import as_planned, rules_of
from tasks.records.plan import Plan, load_plan
from tests.support.planning import small_recipe

JUDGE = {"name": "critic", "tokenizer": "microworld", "endpoints": ["http://127.0.0.1:9/v1"]}
ENDPOINT = "http://127.0.0.1:9/v1"
BEFORE_WINDOWS = {"refusals": "by_notes", "facts": "by_sentence"}
WINDOWS = {"long_texts": "windows"}
NOW = BEFORE_WINDOWS | WINDOWS
BEFORE_FACTS = {"refusals": "by_notes"}
BEFORE_BOTH: dict[str, str] = {}
ATOMIC, IGNORED = {"granularity": "atomic"}, {"no_facts_despite_notes": "ignore_notes"}


def recipe_with(folder: Path, **faithfulness: Any) -> Recipe:
    rows = [{"id": "a", "question": "Q?", "context": "x" * 100}]
    scorers = [{"scorer": "completeness"}, {"scorer": "faithfulness", **faithfulness}]
    return small_recipe(folder, rows, judge=JUDGE, scoring={"scorers": scorers})


def plan_of(recipe: Recipe) -> Plan:
    return make_plan(recipe, open_store(recipe.store))


def faithfulness_of(recipe: Recipe) -> dict[str, Any]:
    return dict(recipe.scoring.scorers[-1])


@pytest.mark.parametrize(
    ("rules", "settings"),
    [(NOW, {}), (BEFORE_WINDOWS, {}), (BEFORE_FACTS, ATOMIC), (BEFORE_BOTH, ATOMIC | IGNORED)],
)
def test_a_plan_is_resumed_by_its_rules(rules: dict[str, str], settings: dict[str, Any], tmp_path: Path) -> None:
    recipe = recipe_with(tmp_path)
    plan = replace(plan_of(recipe), rules=rules)
    resumed = as_planned(recipe, plan)
    assert faithfulness_of(resumed) == {"scorer": "faithfulness", **settings}
    assert rules_of(resumed) == rules
    assert as_planned(resumed, plan) == resumed


@pytest.mark.parametrize("settings", [{}, ATOMIC, IGNORED, ATOMIC | IGNORED])
@pytest.mark.parametrize("rules", [NOW, BEFORE_WINDOWS, BEFORE_FACTS, BEFORE_BOTH, {"facts": "by_sentence"}])
def test_the_plan_prevails_over_a_recipe_that_was_changed(
    rules: dict[str, str], settings: dict[str, Any], tmp_path: Path
) -> None:
    recipe = recipe_with(tmp_path, **settings)
    resumed = as_planned(recipe, replace(plan_of(recipe), rules=rules))
    assert rules_of(resumed) == rules


def test_an_atomic_plan_is_the_one_from_before_the_key(tmp_path: Path) -> None:
    atomic = plan_of(recipe_with(tmp_path, **ATOMIC))
    assert atomic.rules == BEFORE_FACTS | WINDOWS
    assert atomic.recipe["scoring"]["scorers"][-1] == {"scorer": "faithfulness"}
    assert {name for name in atomic.prompts if name.endswith("-facts")} == {
        "en/judge-full-facts",
        "zh/judge-full-facts",
    }
    cutting = recipe_with(tmp_path, **ATOMIC, **IGNORED).model_copy(update={"embedding": Embedding(long_texts="cut")})
    assert "rules" not in plan_of(cutting).to_json()


def test_by_sentence_is_another_plan_with_another_prompt(tmp_path: Path) -> None:
    recipe = recipe_with(tmp_path)
    plan = plan_of(recipe)
    assert plan.plan_id != plan_of(recipe_with(tmp_path, **ATOMIC)).plan_id
    assert load_plan(open_store(recipe.store), plan.plan_id).rules == NOW
    assert {"en/judge-full-sentence-facts", "zh/judge-full-sentence-facts"} <= plan.prompts.keys()
    assert not any(name.endswith("-full-facts") for name in plan.prompts)


def test_without_facts_there_is_no_rule(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, scoring={"scorers": [{"scorer": "consensus", "similarity": "rouge_l"}]})
    assert rules_of(recipe) == {}


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
