"""What judging will take: the scorers' expectations before a run, what was asked after one, each model's own price."""

from dataclasses import replace

import pytest

from infra.errors import RecipeError
from infra.ledger import Ledger
from infra.recipe import Pairing, Recipe, Scoring, parse_recipe
from infra.store import open_store
from tasks.judging.calibration import Calibration
from tasks.judging.verifier_settings import VerifierSettings
from tasks.planning import make_plan as planning
from tasks.planning.estimate import estimate, size_of_call
from tasks.planning.expected import Range
from tasks.planning.make_plan import make_plan
from tasks.prompts import load_prompt
from tasks.reporting.tables import plan_rows
from tasks.scoring import parse_scorers
from tests.support.planning import small_recipe

SCORERS = [
    {"scorer": "helpfulness"},
    {"scorer": "completeness", "chunk_tokens": 40, "notes_tokens": 80},
    {"scorer": "faithfulness", "expected_facts": 2, "chunk_tokens": 10, "nearest": 3},
]
JUDGE = {
    "name": "critic",
    "tokenizer": "microworld",
    "endpoints": ["http://127.0.0.1:9/v1"],
    "price": {"input_per_million": 1000.0, "output_per_million": 0.0, "currency": "EUR"},
}


def judged_recipe(folder, **sections) -> Recipe:
    rows = [{"id": f"g{number}", "question": f"Q{number}?", "context": "x" * 100} for number in range(5)]
    return small_recipe(folder, rows, judge=JUDGE, scoring={"scorers": SCORERS}, **sections)


def view_of(recipe):
    store = open_store(recipe.store)
    with Ledger(store) as ledger:
        return estimate(make_plan(recipe, store), recipe, store, ledger).to_json()


def test_calls_are_what_the_scorers_expect_over_all_questions(tmp_path):
    view = view_of(judged_recipe(tmp_path))
    # 5 questions with 3 samples each; 100 tokens of context are 3 chunks of 40
    assert {kind: calls["total"] for kind, calls in view["judge"]["calls"].items()} == {
        "completeness": 15,
        "facts": 15,
        "helpfulness": 15,
        "notes": 15,
        "support": 30,
    }
    assert all(calls["held"] == 0 for calls in view["judge"]["calls"].values())
    assert view["calls"].keys() == {"sample"}


def test_several_facts_a_call_are_fewer_and_longer_calls_with_prompts_of_their_own(tmp_path):
    scorers = [{**SCORERS[2], "facts_per_call": 4}]
    recipe = judged_recipe(tmp_path).model_copy(update={"scoring": Scoring(scorers=scorers)})
    view = view_of(recipe)
    # 3 answers with 2 facts each are 6 verdicts a question: 2 calls of at most 4
    assert {kind: calls["total"] for kind, calls in view["judge"]["calls"].items()} == {"facts": 15, "supports": 10}
    (faithfulness,) = (scorer.settings for scorer in parse_scorers(recipe))
    file = len(load_prompt("judge-full-supports", "en").text) / 4
    size = size_of_call("supports", faithfulness, recipe, 100, 50)
    assert (size.prompt, size.reply) == (file + 4 * (30 + 30), Range(256, 512, 2048))
    terse = recipe.model_copy(update={"judge": recipe.judge.model_copy(update={"prompts": "terse"})})
    assert size_of_call("supports", faithfulness, terse, 100, 50).reply == Range(32, 32, 2048)
    plan = make_plan(recipe, open_store(recipe.store))
    assert {name.partition("/judge-full-")[2] for name in plan.prompts} == {
        "",
        "sentence-facts",
        "support",
        "supports",
    }


def test_judging_is_paid_at_the_judges_price_and_added(tmp_path):
    view = view_of(judged_recipe(tmp_path))
    expected = view["judge"]["tokens"]["input"] * 1000.0 / 1e6
    assert view["judge"]["cost"]["expected"] == pytest.approx(expected, rel=1e-3)
    sampling = (view["tokens"]["input"] * 2.0 + view["tokens"]["output"]["high"] * 8.0) / 1e6
    assert view["cost"]["high"] == pytest.approx(view["judge"]["cost"]["high"] + sampling, rel=1e-3)


def test_a_prompt_is_as_long_as_its_file_and_what_it_is_filled_with(tmp_path):
    recipe = judged_recipe(tmp_path)
    helpfulness, completeness, faithfulness = (scorer.settings for scorer in parse_scorers(recipe))

    def file_tokens(step):
        return len(load_prompt(f"judge-full-{step}", "en").text) / 4

    notes = size_of_call("notes", completeness, recipe, 100, 50)
    assert (notes.prompt, notes.reply) == (file_tokens("notes") + 40 + 30, Range(10, 20, 80))
    rating = size_of_call("completeness", completeness, recipe, 100, 50)
    assert rating.prompt == file_tokens("completeness") + 3 * 10 + 30 + 50
    assert size_of_call("support", faithfulness, recipe, 100, 50).prompt == file_tokens("support") + 30 + 30
    assert size_of_call("helpfulness", helpfulness, recipe, 100, 50).reply == Range(64, 128, 512)
    terse = recipe.model_copy(update={"judge": recipe.judge.model_copy(update={"prompts": "terse"})})
    assert size_of_call("helpfulness", helpfulness, terse, 100, 50).reply == Range(8, 8, 512)


def test_the_plan_says_which_numbers_are_expectations(tmp_path):
    _, rows = plan_rows({"shards": 2, **view_of(judged_recipe(tmp_path))})
    values = dict(map(tuple, rows))
    assert values["calls: sample"] == "15 (0 in the ledger)"
    assert values["calls: support"] == "about 30, expected (0 in the ledger)"
    assert values["judging: input tokens"].endswith(", expected")
    assert "pairs" not in values


def test_the_plan_says_how_many_pairs_there_may_be_where_a_question_may_have_several(tmp_path):
    recipe = judged_recipe(tmp_path).model_copy(update={"pairing": Pairing(pairs_per_question=4)})
    view = view_of(recipe)
    assert view["most_pairs"] == 4 * view["examples"] == 20
    assert ["pairs", "at most 20"] in plan_rows({"shards": 2, **view})[1]


def test_without_a_judge_nothing_is_said_of_one(tmp_path):
    rows = [{"id": "a", "question": "Q?", "context": "x"}]
    view = view_of(small_recipe(tmp_path, rows))
    assert view["judge"] is None
    assert not any("judging" in row[0] for row in plan_rows({"shards": 1, **view})[1])


def test_prices_in_two_currencies_are_refused(tmp_path):
    dollars = {**JUDGE, "price": {"input_per_million": 1.0, "currency": "USD"}}
    with pytest.raises(RecipeError, match=r"policy\.price\.currency is EUR, judge\.price\.currency is USD"):
        small_recipe(tmp_path, judge=dollars)
    free = small_recipe(tmp_path, judge={**JUDGE, "price": {"currency": "USD"}})
    assert free.judge.price.currency == "USD"  # nothing is paid in it


def test_a_scorer_that_needs_a_judge_is_refused_before_any_work(tmp_path):
    recipe = judged_recipe(tmp_path)
    without = parse_recipe({**recipe.model_dump(mode="json"), "judge": None})
    with pytest.raises(RecipeError, match="helpfulness asks a judge, and the recipe has no `judge` section"):
        make_plan(without, open_store(without.store))
    assert not open_store(without.store).list()


def test_the_judges_prompts_are_part_of_the_plan_and_a_changed_word_makes_a_new_one(tmp_path, monkeypatch):
    recipe = judged_recipe(tmp_path)
    store = open_store(recipe.store)
    plan = make_plan(recipe, store)
    steps = ("helpfulness", "notes", "completeness", "sentence-facts", "support")
    english = {f"en/judge-full-{step}" for step in steps}
    chinese = {f"zh/judge-full-{step}" for step in steps}
    assert plan.prompts.keys() == {"en/sample-default", *english, *chinese}

    def reworded(name, language):
        text = load_prompt(name, language)
        return replace(text, fingerprint="0" * 64) if name == "judge-full-support" else text

    monkeypatch.setattr(planning, "load_prompt", reworded)
    assert make_plan(recipe, store).plan_id != plan.plan_id


def test_the_full_judge_stands_beside_a_cheaper_one(tmp_path):
    own = {"model": "m", "endpoint": "http://127.0.0.1:9/v1", "price": {"input_per_million": 10.0, "currency": "EUR"}}
    identity = VerifierSettings.model_validate(own).identity()
    near = {"0": 0.0, "0.1": 0.1, "0.2": 0.2, "0.4": 0.9}
    path = Calibration(1.0, 0.5, 0.5, identity, near).write(open_store(str(tmp_path / "mill")))
    plain = judged_recipe(tmp_path)
    full = view_of(plain)["judge"]
    assert not {"stages", "full_judge"} & full.keys()

    faithfulness = {**SCORERS[2], "verifier": {**own, "calibration": path}}
    recipe = parse_recipe({**plain.model_dump(), "scoring": {"scorers": [*SCORERS[:2], faithfulness]}})
    view = view_of(recipe)
    judge = view["judge"]
    assert (judge["calls"]["verify"]["to_make"], judge["calls"]["support"]["to_make"]) == (30, 6)  # a fifth is near
    assert judge["full_judge"]["calls"] == sum(calls["to_make"] for calls in full["calls"].values())
    assert judge["full_judge"]["cost"] == pytest.approx(full["cost"]["expected"])
    assert judge["cost"]["expected"] < judge["full_judge"]["cost"]
    assert sum(stage["cost"] for stage in judge["stages"].values()) == pytest.approx(
        judge["cost"]["expected"], abs=1e-3
    )
    assert 0 < judge["stages"]["verify"]["cost"] < 0.02 * judge["stages"]["support"]["cost"] * 30 / 6
    values = dict(map(tuple, plan_rows({"shards": 2, **view})[1]))
    assert values["stage: support"].startswith("about 6 calls, ")
    assert values["judging by the full judge"].endswith(" EUR")

    bundled = {**SCORERS[2], "facts_per_call": 3, "control_share": 0.1}
    recipe = parse_recipe({**plain.model_dump(), "scoring": {"scorers": [*SCORERS[:2], bundled]}})
    judge = view_of(recipe)["judge"]
    assert (judge["calls"]["supports"]["to_make"], judge["calls"]["support"]["to_make"]) == (10, 3)
    assert judge["full_judge"]["calls"] == sum(calls["to_make"] for calls in full["calls"].values())


def test_a_verifier_without_a_calibration_is_refused_before_a_plan(tmp_path):
    faithfulness = {"scorer": "faithfulness", "verifier": {"model": "m"}}
    plain = judged_recipe(tmp_path)
    recipe = parse_recipe({**plain.model_dump(), "scoring": {"scorers": [faithfulness]}})
    with pytest.raises(RecipeError, match=r"longmill agreement DATASET --verifier RECIPE"):
        make_plan(recipe, open_store(recipe.store))
