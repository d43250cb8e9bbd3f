"""Leaving answers unjudged that can be neither chosen nor rejected changes no pair, and saves calls."""

import json
import random
import re
import statistics
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.models.client import Request
from infra.models.embedding.embedder import Embedder
from infra.recipe import Recipe
from tasks.judging.pruning import saved_calls
from tasks.pairing import pair_example
from tasks.records.example import Drop, Judgement, Pair
from tasks.scoring import parse_scorers, rewards
from tasks.scoring.run import score_answers, score_with
from tests.support.scripted_judge import (
    ScriptedJudge,
    case_of,
    count_words,
    inside,
    judged_recipe,
    prompt_of,
    scoring_with,
)

LABELS = ["[[Fully supported]]", "[[Partially supported]]", "[[No support]]"]
SCORERS = [{"scorer": "helpfulness"}, {"scorer": "logicality", "weight": 2.0}, {"scorer": "faithfulness"}]


def recipe_with(prune: bool, scorers: list[dict[str, Any]], **pairing: Any) -> Recipe:
    return judged_recipe(
        scoring={"scorers": scorers, "prune": prune}, pairing={"rule": "best_vs_worst", "min_scored": 2, **pairing}
    )


def drawn_judge(seed: int, broken: float) -> ScriptedJudge:
    """Ratings and verdicts drawn from the request itself; a share of them cannot be used.

    A verdict among others depends on its company, as a model's may.
    """

    def says(request: Request) -> str:
        if request.kind == "supports":
            draw = random.Random(f"{seed}:{prompt_of(request)}:{request.sample_index}")
            if draw.random() < broken:
                return "no judgement"
            count = prompt_of(request).count("<statement ")
            return "\n".join(f"{number}. {draw.choice(LABELS)}" for number in range(1, count + 1))
        subject = inside(request, "statement") if request.kind == "support" else inside(request, "answer")
        draw = random.Random(f"{seed}:{request.kind}:{subject}")
        if draw.random() < broken:
            return "no judgement"
        if request.kind == "facts":
            count = draw.randint(0, 9)
            facts = [f"<statement>Fact {draw.randint(0, 30)}.</statement>" for _ in range(count)]
            return "\n".join(facts) or "No factual statements"
        if request.kind == "support":
            return draw.choice(LABELS)
        return f"[[{draw.randint(4, 7)}]]"

    return ScriptedJudge(says)


def outcome(recipe: Recipe, judge: ScriptedJudge, answers: list[str]) -> tuple[list[Pair] | Drop, list[Judgement]]:
    case = case_of(*answers)
    active = parse_scorers(recipe)
    judgements = score_answers([case], active, scoring_with(judge, recipe, Embedder(count_words)))
    pair = pair_example(case.example, case.answers, rewards(judgements, active), recipe.pairing, recipe.seed)
    return pair, judgements


def told(found: list[Pair] | Drop) -> list[Pair] | Drop:
    """A drop's detail counts the answers that have a reward, which pruning makes fewer."""
    return replace(found, detail="") if isinstance(found, Drop) else found


@pytest.mark.medium
@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(st.sampled_from(["", "CUT:"]), min_size=1, max_size=10),
    st.sampled_from([0.0, 0.02, 0.2]),
    st.integers(2, 6),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([0.5, 0.98]),
    st.sampled_from([0.0, 0.5, 1.0, 6.0]),
    st.sampled_from([None, 0.0, 10.0]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 2, 5]),
    st.sampled_from([1, 1, 3, 64]),
)
def test_the_pairs_are_the_same_with_and_without(
    seed: int,
    cuts: list[str],
    broken: float,
    min_scored: int,
    margin: float,
    likeness: float,
    weight: float,
    no_facts: float | None,
    share: bool,
    cut_off: bool,
    consensus: bool,
    facts_per_call: int,
    pairs: int,
) -> None:
    answers = [f"{cut}Answer {number % 8} speaks." for number, cut in enumerate(cuts)]  # some answers are the same
    facts = {
        "scorer": "faithfulness",
        "weight": weight,
        "no_facts": no_facts,
        "share_facts": share,
        "facts_per_call": facts_per_call,
    }
    near = [{"scorer": "consensus", "similarity": "rouge_l", "weight": 3.0}] if consensus else []
    scorers = [facts, *SCORERS[:2], *near]
    pairing = {
        "min_scored": min_scored,
        "min_margin": margin,
        "max_likeness": likeness,
        "cut_off_as_chosen": cut_off,
        "pairs_per_question": pairs,
    }
    full, _ = outcome(recipe_with(False, scorers, **pairing), drawn_judge(seed, broken), answers)
    pruned, judgements = outcome(recipe_with(True, scorers, **pairing), drawn_judge(seed, broken), answers)
    assert told(pruned) == told(full)
    assert all((each.score is None) == (each.reason is not None) for each in judgements)


def spread_judge(request: Request) -> str:
    """Answer k of ten is of quality k; its facts are its own."""
    text = inside(request, "statement") if request.kind == "support" else inside(request, "answer")
    quality = int(text.split()[1])
    if request.kind == "facts":
        return "\n".join(f"<statement>Answer {quality} has fact {number}.</statement>" for number in range(20))
    if request.kind == "support":
        return "[[Fully supported]]" if int(text.split()[-1].rstrip(".")) < 2 * quality else "[[No support]]"
    return f"[[{quality}]]"


def test_answers_in_the_middle_are_left_alone_and_say_so() -> None:
    answers = [f"Answer {quality} speaks." for quality in range(10)]
    full, pruned = ScriptedJudge(spread_judge), ScriptedJudge(spread_judge)
    before, _ = outcome(recipe_with(False, SCORERS), full, answers)
    after, judgements = outcome(recipe_with(True, SCORERS), pruned, answers)
    assert before == after
    assert isinstance(after, list)
    assert [(each.chosen_index, each.rejected_index) for each in after] == [(9, 0)]
    assert full.calls["support"] == 200
    assert pruned.calls["support"] <= 100
    reasons = [each.reason for each in judgements if each.scorer == "faithfulness"]
    assert reasons.count("pruned") >= 5
    assert reasons[0] is reasons[9] is None


def test_where_there_may_be_several_pairs_every_answer_is_judged() -> None:
    answers = [f"Answer {quality} speaks." for quality in range(10)]
    full, pruned = ScriptedJudge(spread_judge), ScriptedJudge(spread_judge)
    before, _ = outcome(recipe_with(False, SCORERS, pairs_per_question=8), full, answers)
    after, judgements = outcome(recipe_with(True, SCORERS, pairs_per_question=8), pruned, answers)
    assert before == after
    assert isinstance(after, list)
    nested = [(9, 0), (8, 1), (7, 2), (6, 3), (5, 4)]  # then the widest of all: 9 and 8 over 1 and 0
    assert [(each.chosen_index, each.rejected_index) for each in after[:5]] == nested
    assert {(each.chosen_index, each.rejected_index) for each in after[5:7]} == {(9, 1), (8, 0)}
    assert pruned.calls == full.calls
    assert {each.reason for each in judgements} == {None}


def test_several_facts_a_call_save_calls_on_top_of_leaving_answers_alone() -> None:
    def says(request: Request) -> str:
        if request.kind != "supports":
            return spread_judge(request)
        found = re.findall(r"Answer (\d) has fact (\d+)\.", prompt_of(request))
        verdicts = ["[[Fully supported]]" if int(n) < 2 * int(q) else "[[No support]]" for q, n in found]
        return "\n".join(f"{number}. {each}" for number, each in enumerate(verdicts, 1))

    answers = [f"Answer {quality} speaks." for quality in range(10)]
    scorers = [*SCORERS[:2], {"scorer": "faithfulness", "facts_per_call": 4}]
    full, pruned = ScriptedJudge(says), ScriptedJudge(says)
    before, _ = outcome(recipe_with(False, scorers), full, answers)
    after, judgements = outcome(recipe_with(True, scorers), pruned, answers)
    assert before == after
    assert (full.calls["supports"], full.calls["support"]) == (50, 0)
    assert pruned.calls["supports"] <= 30
    saved = saved_calls(judgements)
    assert saved["pruned"] > 0
    assert pruned.calls["supports"] + sum(saved.values()) == 200


def test_a_rule_that_looks_at_the_middle_judges_everything() -> None:
    judge = ScriptedJudge(spread_judge)
    outcome(recipe_with(True, SCORERS, rule="best_vs_lower_half"), judge, [f"Answer {q} speaks." for q in range(10)])
    assert judge.calls["support"] == 200


def test_enough_answers_stay_fully_scored() -> None:
    judge = ScriptedJudge(spread_judge)
    _, judgements = outcome(recipe_with(True, SCORERS, min_scored=5), judge, [f"Answer {q} speaks." for q in range(10)])
    scored = [each for each in judgements if each.scorer == "faithfulness" and each.score is not None]
    assert 5 <= len(scored) < 10


def drawn_quality(seed: int) -> tuple[ScriptedJudge, list[str]]:
    """Ten answers whose quality has a standard deviation of one point about 7.5; 20 facts of its own each."""
    qualities = [7.5 + statistics.NormalDist().inv_cdf((place + 0.5) / 10) for place in range(10)]
    random.Random(seed).shuffle(qualities)

    def says(request: Request) -> str:
        text = inside(request, "statement") if request.kind == "support" else inside(request, "answer")
        index, draw = int(text.split()[1]), random.Random(f"{seed}:{request.kind}:{text}")
        if request.kind == "facts":
            return "\n".join(f"<statement>Answer {index} has fact {number}.</statement>" for number in range(20))
        if request.kind == "support":
            return "[[Fully supported]]" if draw.random() < qualities[index] / 10 else "[[No support]]"
        return f"[[{min(10, max(0, round(qualities[index] + draw.gauss(0, 0.7))))}]]"

    return ScriptedJudge(says), [f"Answer {index} speaks." for index in range(10)]


@pytest.mark.medium
def test_a_quarter_of_the_methods_calls_is_saved_where_quality_spreads_by_a_point() -> None:
    saved = []
    for seed in range(15):
        (full, answers), (pruned, _) = drawn_quality(seed), drawn_quality(seed)
        before, _ = outcome(recipe_with(False, SCORERS, min_scored=5), full, answers)
        after, judgements = outcome(recipe_with(True, SCORERS, min_scored=5), pruned, answers)
        assert before == after
        saved.append(full.calls["support"] - pruned.calls["support"])
        assert saved_calls(judgements) == {"shared": 0, "pruned": saved[-1]}
    assert statistics.mean(saved) >= 0.25 * 248


def test_an_answer_that_another_scorer_could_not_judge_is_judged_in_full() -> None:
    def says(request: Request) -> str:
        lost = request.kind == "helpfulness" and inside(request, "answer") == "Answer 5 speaks."
        return "no judgement" if lost else spread_judge(request)

    _, judgements = outcome(recipe_with(True, SCORERS), ScriptedJudge(says), [f"Answer {q} speaks." for q in range(10)])
    by_scorer = {each.scorer: each for each in judgements if each.sample_index == 5}
    assert by_scorer["helpfulness"].score is None
    assert by_scorer["faithfulness"].score == 5.0


def test_what_is_judged_for_one_answer_is_known_of_all_and_what_is_not_says_so() -> None:
    _, judgements = outcome(
        recipe_with(True, SCORERS), ScriptedJudge(common_judge), [f"Answer {q} speaks." for q in range(10)]
    )
    verdicts: dict[str, set[float | None]] = {}
    for each in judgements:
        for fact in json.loads(each.evidence).get("facts", []):
            assert (fact["support"] is None) == (fact["reason"] == "pruned") == (fact["key"] is None)
            verdicts.setdefault(fact["text"], set()).add(fact["support"])
    assert all(len(known) == 1 for known in verdicts.values())
    assert {None} in verdicts.values()
    saved = saved_calls(judgements)
    assert saved["shared"] >= 9 * 4
    assert saved["pruned"] > 0


def common_judge(request: Request) -> str:
    """As `spread_judge`; the first facts of all answers are the same."""
    if request.kind == "facts":
        common = "\n".join(f"<statement>Answer 5 of all has fact {number}.</statement>" for number in range(4))
        return f"{common}\n{spread_judge(request)}"
    return spread_judge(request)


def test_a_scorer_alone_judges_in_full_though_the_recipe_prunes() -> None:
    recipe = recipe_with(True, SCORERS)
    (scorer,) = (scorer for scorer in parse_scorers(recipe) if scorer.name == "faithfulness")
    judge = ScriptedJudge(spread_judge)
    question = case_of(*(f"Answer {quality} speaks." for quality in range(10)))
    scoring = scoring_with(judge, recipe, Embedder(count_words))
    judgements = score_with(scorer.name, scorer.settings, [question], scoring)
    assert [judgement.score for judgement in judgements] == [float(quality) for quality in range(10)]
    assert judge.calls["support"] == 200


def test_a_scorer_of_no_weight_has_no_say_in_pruning() -> None:
    answers = [f"Answer {quality} speaks." for quality in range(10)]
    weightless = {"scorer": "consensus", "similarity": "rouge_l", "weight": 0.0}
    with_it, without = ScriptedJudge(spread_judge), ScriptedJudge(spread_judge)
    pairs, _ = outcome(recipe_with(True, [*SCORERS, weightless]), with_it, answers)
    assert pairs == outcome(recipe_with(True, SCORERS), without, answers)[0]
    assert with_it.calls == without.calls
    assert with_it.calls["support"] <= 100
