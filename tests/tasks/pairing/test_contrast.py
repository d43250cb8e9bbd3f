"""Contrast: the stronger model is asked once a question through its own client, and its answer is chosen."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.errors import ModelError, RecipeError
from infra.models.client import Failure, Outcome, Reply, Request
from infra.recipe import Pairing, Recipe, parse_recipe
from tasks.pairing import pair_example
from tasks.planning.make_plan import _Tally, _warnings
from tasks.published_rows import pair_rows
from tasks.records.dataset import ShardData, Split
from tasks.records.example import STRONG, Answer, Context, Drop, Example, Judgement, Pair
from tasks.reporting.summary import SummaryTally
from tasks.resources import open_resources
from tasks.sampling import calls_per_example, draw_answers, kind_of
from tests.support.recipes_for_scoring import recipe_with

EXAMPLE = Example("e", "Which river?", "c", ("Elbe",), "qa", "en", "{}")
CONTEXT = Context("c", "The Elbe.", 3, (0,), (9,), ("",))
STRONG_MODEL = {
    "name": "big",
    "revision": "r7",
    "tokenizer": "microworld",
    "endpoints": ["http://127.0.0.1:10/v1"],
    "price": {"output_per_million": 5},
}


def recipe(**sections: Any) -> Recipe:
    wanted = {"sampling": {"samples": 3, "greedy": True}, "strong": STRONG_MODEL, "pairing": {"rule": "contrast"}}
    return recipe_with({"scorer": "consensus", "similarity": "rouge_l"}, **(wanted | sections))


class Model:
    """Says its name and the sample's index."""

    def __init__(self, failure: Failure | None = None) -> None:
        self.asked: list[Request] = []
        self._failure = failure

    def complete(self, requests: list[Request]) -> list[Outcome]:
        self.asked += requests
        made = [Reply(each.key, f"{each.model} {each.sample_index}", "stop", 7, 3, False, "{}") for each in requests]
        return [self._failure or reply for reply in made]


def own(index: int, text: str | None = None, reason: str = "stop") -> Answer:
    return Answer(
        "e", index, f"own words number {index} {'x' * index}" if text is None else text, reason, 7, 3, "s", "k"
    )


def paired(*answers: Answer, seed: int = 0, **settings: Any) -> Pair | Drop:
    found = pair_example(EXAMPLE, answers, {}, Pairing(rule="contrast", **settings), seed)
    return found if isinstance(found, Drop) else found[0]


def test_the_stronger_model_is_asked_once_a_question_with_the_same_prompt_through_its_own_client() -> None:
    policy, strong, wanted = Model(), Model(), recipe()
    examples = [EXAMPLE, Example("f", "What?", "c", (), "qa", "en", "{}")]
    answers = draw_answers(examples, {"c": CONTEXT}, wanted, policy, strong)  # type: ignore[arg-type]
    assert [(each.example_id, each.sample_index, kind_of(each)) for each in answers if each.example_id == "e"] == [
        ("e", 0, "sample"),
        ("e", 1, "sample"),
        ("e", 2, "sample"),
        ("e", -1, "greedy"),
        ("e", -2, "strong"),
    ]
    assert [each.example_id for each in answers] == ["e"] * 5 + ["f"] * 5
    request = strong.asked[0]
    assert len(strong.asked) == 2 and {each.model for each in policy.asked} == {"stub"}
    assert (request.model, request.revision, request.kind, request.affinity) == ("big", "r7", "strong", "c")
    assert request.prompt == policy.asked[0].prompt
    assert (request.parameters["temperature"], request.parameters["seed"]) == (0.0, 0)
    assert answers[4].text == "big -2"
    assert calls_per_example(wanted) == 5


def test_without_a_stronger_model_nothing_else_is_asked() -> None:
    policy, plain = Model(), recipe(strong=None, pairing={})
    answers = draw_answers([EXAMPLE], {"c": CONTEXT}, plain, policy)  # type: ignore[arg-type]
    assert [each.sample_index for each in answers] == [0, 1, 2, -1]
    assert calls_per_example(plain) == 4


def test_a_passing_fault_of_the_stronger_model_fails_the_batch_and_a_permanent_one_is_an_answer_without_text() -> None:
    passing, final = Failure("k", "timeout", "slow", False), Failure("k", "prompt_too_long", "", True)
    with pytest.raises(ModelError, match="timeout"):
        draw_answers([EXAMPLE], {"c": CONTEXT}, recipe(), Model(), Model(passing))  # type: ignore[arg-type]
    answers = draw_answers([EXAMPLE], {"c": CONTEXT}, recipe(), Model(), Model(final))  # type: ignore[arg-type]
    assert (answers[-1].sample_index, answers[-1].text, answers[-1].finish_reason) == (STRONG, "", "prompt_too_long")


def test_the_strong_answer_is_chosen_over_a_seeded_answer_of_the_policy() -> None:
    answers = [own(0), own(1), own(2), own(-1), own(STRONG, "the Elbe")]
    found = [paired(*answers, seed=seed) for seed in range(30)]
    assert {each.chosen_index for each in found if isinstance(each, Pair)} == {STRONG}
    assert {each.rejected_index for each in found if isinstance(each, Pair)} == {0, 1, 2}
    assert found == [paired(*answers[::-1], seed=seed) for seed in range(30)]
    assert found[0] == Pair("e", "c", STRONG, found[0].rejected_index, 1.0, 0.0, 1.0)  # type: ignore[union-attr]
    assert isinstance(paired(own(0), own(STRONG, "the Elbe"), min_scored=5), Pair)  # scores do not count


def test_several_pairs_set_the_strong_answer_over_each_of_the_policys() -> None:
    answers = [own(0), own(1), own(2), own(-1), own(STRONG, "the Elbe")]
    settings = Pairing(rule="contrast", pairs_per_question=8)
    found = pair_example(EXAMPLE, answers, {}, settings, 0)
    assert not isinstance(found, Drop)
    assert {(each.chosen_index, each.margin) for each in found} == {(STRONG, 1.0)}
    assert sorted(each.rejected_index for each in found) == [0, 1, 2]
    assert found[0] == paired(*answers)


def test_an_own_answer_that_says_the_same_is_not_rejected() -> None:
    same = [own(0, "the Elbe"), own(1), own(STRONG, " the  Elbe")]
    assert {paired(*same, seed=seed).rejected_index for seed in range(9)} == {1}  # type: ignore[union-attr]
    found = paired(own(0, "the Elbe"), own(STRONG, "the Elbe"))
    assert isinstance(found, Drop) and found.reason == "near_identical"


@pytest.mark.parametrize(
    ("answers", "reason", "detail"),
    [
        ([own(0)], "no_strong_answer", "not asked"),
        ([own(0), own(STRONG, "", "content_filter")], "no_strong_answer", "content_filter"),
        ([own(0), own(STRONG, "cut o", "length")], "cut_off", ""),
        ([own(0, ""), own(STRONG, "fine")], "no_answers", "stop: 1"),
    ],
)
def test_without_two_answers_there_is_no_pair(answers: list[Answer], reason: str, detail: str) -> None:
    found = paired(*answers)
    assert isinstance(found, Drop) and found.reason == reason and detail in found.detail


def test_the_stronger_models_answer_is_no_answer_of_the_policys_for_other_rules() -> None:
    rewards = {("e", 0): 0.9, ("e", 1): 0.1, ("e", STRONG): 1.0}
    (found,) = pair_example(EXAMPLE, [own(0), own(1), own(STRONG)], rewards, Pairing(), 0)  # type: ignore[misc]
    assert isinstance(found, Pair) and (found.chosen_index, found.rejected_index) == (0, 1)
    short = pair_example(EXAMPLE, [own(0), own(-1), own(STRONG)], rewards, Pairing(), 0)
    assert isinstance(short, Drop) and short.detail.startswith("1 of 1 answers")


def _shard() -> ShardData:
    answers = [own(0, "the Saale"), own(1, "the Elbe"), own(-1, "the Rhine"), own(STRONG, "the Elbe, of course")]
    judgements = [Judgement("e", index, "consensus", 0.5, None, "{}", ()) for index in (0, 1)]
    pairs = [Pair("e", "c", STRONG, 0, 1.0, 0.0, 1.0)]
    return ShardData([EXAMPLE], {"c": CONTEXT}, answers, judgements, pairs, [], {("e", 0): 0.5, ("e", 1): 0.5})


def test_a_published_row_says_who_wrote_it() -> None:
    row = pair_rows(_shard(), recipe(), "p", Split(0, 0.0))["train"][0]
    assert (row["model"], row["chosen_index"]) == ("big over stub", -2)
    assert row["chosen"] == [{"role": "assistant", "content": "the Elbe, of course"}]
    assert [score["score"] for score in row["rejected_scores"]] == [0.5] and row["chosen_scores"] == []


def test_the_report_does_not_count_the_strong_answer_as_the_policys() -> None:
    tally = SummaryTally({"consensus": 1.0})
    tally.add(_shard())
    summary = tally.summary()
    assert summary.answers == 2
    means = {name: value["value"] for name, value in summary.subem.items() if value}
    assert (means["random"], means["oracle"], means["greedy"]) == (0.5, 1.0, 0.0)
    assert (means["chosen"], means["rejected"]) == (1.0, 0.0)


def test_the_recipe_says_what_contrast_needs_and_who_is_asked_is_part_of_the_plan() -> None:
    with pytest.raises(RecipeError, match="contrast needs the `strong` section"):
        recipe(strong=None)
    with pytest.raises(RecipeError, match="give endpoints"):
        recipe(strong={**STRONG_MODEL, "endpoints": [], "serve": {"model_path": "microworld"}})
    same = recipe(strong=STRONG_MODEL | {"endpoints": ["http://127.0.0.1:11/v1"], "price": {"output_per_million": 9}})
    assert same.identity() == recipe().identity()
    assert recipe(strong=STRONG_MODEL | {"revision": "r8"}).identity() != recipe().identity()
    assert "127.0.0.1:10" not in json.dumps(recipe().identity())


def test_a_plan_says_that_its_estimate_leaves_the_stronger_model_out() -> None:
    assert "the calls to big, one for each question, are not in the estimate" in _warnings(recipe(), _Tally(), {}, True)
    assert _warnings(recipe(strong=None, pairing={}), _Tally(), {}, True) == []


def test_each_answer_is_paid_at_the_price_of_the_model_that_gave_it(tmp_path: Path) -> None:
    settings = recipe().model_dump(mode="json") | {"store": str(tmp_path / "mill")}
    with open_resources(parse_recipe(settings)) as resources:
        assert resources.strong is not None
        assert resources.client_of_answer(0) is resources.client_of_answer(-1) is resources.policy
        assert resources.client_of_answer(STRONG) is resources.strong is not resources.policy
        resources.client_of_answer(STRONG).count_reused("strong", "a" * 64, 0, 2_000_000)
        resources.client_of_answer(0).count_reused("sample", "b" * 64, 0, 2_000_000)
        assert {kind: counts.reused for kind, counts in resources.counts().items()} == {"strong": 1, "sample": 1}
        resources.client_of_answer(STRONG).count_reused("sample", "c" * 64, 0, 0)  # a kind that both were asked
        assert resources.counts()["sample"].reused == 2
        assert resources.policy._meter is resources.strong._meter is not None
        assert resources.policy._meter.spent().money == 10.0  # at 5 a million; the policy costs nothing here
