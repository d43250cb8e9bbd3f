"""The judge is asked until its reply can be used, at most so often, and no reply is paid for twice."""

from collections import Counter

import pytest

from infra.errors import ModelError, RecipeError
from infra.models.client import Failure, Prompt, Request
from tasks.judging.asking import ask_judge
from tasks.judging.replies import read_rating
from tasks.judging.steps import JudgeQuery, ReplyForm
from tests.support.scripted_judge import ScriptedJudge, judged_recipe, scoring_with


def ask(text: str = "rate it", **more: object) -> JudgeQuery[int]:
    return JudgeQuery("helpfulness", Prompt(({"role": "user", "content": text},)), "context", read_rating, 64, **more)  # type: ignore[arg-type]


def test_the_first_try_is_cold_and_the_next_ones_are_hot_with_seeds_of_their_own() -> None:
    judge = ScriptedJudge(lambda request: "[[4]]" if request.sample_index == 3 else "well")
    (word,) = ask_judge([ask()], scoring_with(judge, judged_recipe()))
    assert (word.value, word.reason, len(word.keys)) == (4, None, 4)
    assert [request.parameters["temperature"] for request in judge.asked] == [0.0, 0.95, 0.95, 0.95]
    assert len({request.parameters["seed"] for request in judge.asked}) == 4
    assert word.keys == tuple(request.key for request in judge.asked)


def test_after_five_unusable_replies_the_word_is_null_with_the_last_reason() -> None:
    judge = ScriptedJudge(lambda request: "[[100]]")
    (word,) = ask_judge([ask()], scoring_with(judge, judged_recipe()))
    assert (word.value, word.reason, word.reply, len(judge.asked)) == (None, "off_scale", "[[100]]", 5)


def test_one_null_leaves_the_others_alone_and_words_come_in_the_order_of_the_asks() -> None:
    judge = ScriptedJudge(lambda request: "" if "bad" in request.prompt.messages[0]["content"] else "[[9]]")
    words = ask_judge([ask("a"), ask("bad"), ask("c")], scoring_with(judge, judged_recipe()))
    assert [(word.value, word.reason) for word in words] == [(9, None), (None, "empty"), (9, None)]
    assert len(judge.asked) == 2 + 5


def test_a_reply_cut_off_before_its_judgement_is_asked_again() -> None:
    judge = ScriptedJudge(lambda request: "[[3]]" if request.sample_index else ("The answer is so", "length"))
    (word,) = ask_judge([ask()], scoring_with(judge, judged_recipe()))
    assert (word.value, len(word.keys)) == (3, 2)


def test_a_reply_whose_judgement_is_there_may_be_cut_off_after_it() -> None:
    judge = ScriptedJudge(lambda request: ("fine [[3]]", "length"))
    assert ask_judge([ask()], scoring_with(judge, judged_recipe()))[0].value == 3
    (word,) = ask_judge([ask(cut="never")], scoring_with(judge, judged_recipe()))
    assert word.reason == "cut_off"


@pytest.mark.parametrize("reason", ["content_filter", "prompt_too_long", "bad_request"])
def test_a_lasting_refusal_is_final_at_once(reason: str) -> None:
    judge = ScriptedJudge(lambda request: Failure("", reason, "[[10]] filtered", True))
    (word,) = ask_judge([ask()], scoring_with(judge, judged_recipe()))
    assert (word.value, word.reason, len(judge.asked)) == (None, reason, 1)


def test_a_filtered_completion_is_no_judgement() -> None:
    judge = ScriptedJudge(lambda request: ("[[10]]", "content_filter"))
    assert ask_judge([ask()], scoring_with(judge, judged_recipe()))[0].reason == "content_filter"


def test_a_passing_fault_raises_so_that_the_work_is_tried_again() -> None:
    judge = ScriptedJudge(lambda request: Failure("", "timeout", "600 s", False))
    with pytest.raises(ModelError, match="judge failed after all attempts; the first: timeout"):
        ask_judge([ask()], scoring_with(judge, judged_recipe()))


def test_a_second_run_over_the_same_ledger_asks_nothing() -> None:
    judge = ScriptedJudge(lambda request: "[[4]]" if request.sample_index == 1 else "well")
    first = ask_judge([ask()], scoring_with(judge, judged_recipe()))
    asked = len(judge.asked)
    assert ask_judge([ask()], scoring_with(judge, judged_recipe())) == first
    assert len(judge.asked) == asked


def test_variants_of_one_question_are_calls_of_their_own() -> None:
    judge = ScriptedJudge(lambda request: "[[4]]")
    ask_judge([ask(variant=0), ask(variant=1), ask(variant=0)], scoring_with(judge, judged_recipe()))
    assert len(judge.asked) == 2


def constrained(obeys: bool) -> ScriptedJudge:
    def says(request: Request) -> str:
        forced = request.parameters.get("structured_outputs")
        return "[[7]] [[7]]" if obeys and forced and request.kind == "probe" else "[[5]]"

    return ScriptedJudge(says)


@pytest.mark.parametrize("obeys", [True, False])
def test_replies_are_constrained_where_the_server_turns_out_to_do_it(obeys: bool) -> None:
    judge = constrained(obeys)
    recipe = judged_recipe(judge=judged_recipe().judge.model_dump() | {"structured": "auto"})  # type: ignore[union-attr]
    form = ReplyForm("regex", r"\[\[[0-9]\]\]")
    for text in ("one", "two"):
        assert ask_judge([ask(text, form=form)], scoring_with(judge, recipe))[0].value == 5
    assert judge.calls == {"probe": 1, "helpfulness": 2}
    sent = [request.parameters.get("structured_outputs") for request in judge.asked if request.kind != "probe"]
    assert sent == ([{"regex": form.value}] * 2 if obeys else [None, None])


def test_a_server_that_refuses_the_field_is_taken_at_its_word() -> None:
    def says(request: Request) -> str | Failure:
        refused = "structured_outputs" in request.parameters
        return Failure("", "bad_request", "unknown field", True) if refused else "[[5]]"

    recipe = judged_recipe(judge=judged_recipe().judge.model_dump() | {"structured": "auto"})  # type: ignore[union-attr]
    assert ask_judge([ask(form=ReplyForm("choice", ("a",)))], scoring_with(ScriptedJudge(says), recipe))[0].value == 5


def test_a_recipe_without_a_judge_is_told_so() -> None:
    recipe = judged_recipe(judge=None)
    with pytest.raises(RecipeError, match="no `judge` section"):
        ask_judge([ask()], scoring_with(ScriptedJudge(lambda request: ""), recipe))


def test_retries_depend_on_the_seed_and_the_question_alone() -> None:
    def seeds(recipe_seed: int, *texts: str) -> dict[str, list[int]]:
        judge = ScriptedJudge(lambda request: "well")
        ask_judge([ask(text) for text in texts], scoring_with(judge, judged_recipe(seed=recipe_seed)))
        found: dict[str, list[int]] = {}
        for request in judge.asked:
            found.setdefault(request.prompt.messages[0]["content"], []).append(request.parameters["seed"])
        return found

    together, alone = seeds(1, "a", "b", "c"), seeds(1, "b")
    assert together["b"] == alone["b"] == seeds(1, "c", "b")["b"]
    assert len({seed for of_one in together.values() for seed in of_one[1:]}) == 3 * 4
    assert seeds(2, "b")["b"][1:] != alone["b"][1:]


def test_a_variant_is_sent_the_same_body_so_that_paying_twice_changes_no_reply() -> None:
    judge = ScriptedJudge(lambda request: "well")
    ask_judge([ask(variant=0), ask(variant=3)], scoring_with(judge, judged_recipe()))
    bodies = Counter(request.body() for request in judge.asked)
    assert len({request.key for request in judge.asked}) == 10
    assert set(bodies.values()) == {2}


def test_a_question_may_bring_parameters_of_its_own_and_is_asked_again_with_another_seed() -> None:
    judge = ScriptedJudge(lambda request: "[[4]]" if request.sample_index == 2 else "well")
    own = ask(parameters=(("temperature", 0.7), ("seed", 11)))
    assert ask_judge([own], scoring_with(judge, judged_recipe()))[0].value == 4
    assert [request.parameters["temperature"] for request in judge.asked] == [0.7] * 3
    assert len({request.parameters["seed"] for request in judge.asked}) == 3
