"""Leaving answers unjudged that can be neither chosen nor rejected changes no pair, and saves calls."""

import random
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from infra.embedding import Embedder
from infra.llm import Request
from infra.recipe import Recipe
from tasks.nouns import Drop, Judgement, Pair
from tasks.pairing import pair_example
from tasks.scoring import judge_all, parse_scorers, rewards
from tests.support.scripted_judge import ScriptedJudge, bench_with, case_of, count_words, inside, judged_recipe

SCORERS = [{"scorer": "helpfulness"}, {"scorer": "logicality", "weight": 2.0}, {"scorer": "faithfulness"}]


def recipe_with(prune: bool, scorers: list[dict[str, Any]], **pairing: Any) -> Recipe:
    return judged_recipe(
        scoring={"scorers": scorers, "prune": prune}, pairing={"rule": "best_vs_worst", "min_scored": 2, **pairing}
    )


def drawn_judge(seed: int, broken: float) -> ScriptedJudge:
    """Ratings and verdicts drawn from the request itself; a share of them cannot be used."""

    def says(request: Request) -> str:
        subject = inside(request, "statement") if request.kind == "support" else inside(request, "answer")
        draw = random.Random(f"{seed}:{request.kind}:{subject}")
        if draw.random() < broken:
            return "no judgement"
        if request.kind == "facts":
            count = draw.randint(0, 9)
            facts = [f"<statement>Fact {draw.randint(0, 30)}.</statement>" for _ in range(count)]
            return "\n".join(facts) or "No factual statements"
        if request.kind == "support":
            return draw.choice(["[[Fully supported]]", "[[Partially supported]]", "[[No support]]"])
        return f"[[{draw.randint(4, 7)}]]"

    return ScriptedJudge(says)


def outcome(recipe: Recipe, judge: ScriptedJudge, answers: list[str]) -> tuple[Pair | Drop, list[Judgement]]:
    case = case_of(*answers)
    active = parse_scorers(recipe)
    judgements = judge_all([case], active, bench_with(judge, recipe, Embedder(count_words)))
    pair = pair_example(case.example, case.answers, rewards(judgements, active), recipe.pairing, recipe.seed)
    return pair, judgements


def told(found: Pair | Drop) -> Pair | Drop:
    """A drop's detail counts the answers that have a reward, which pruning makes fewer."""
    return replace(found, detail="") if isinstance(found, Drop) else found


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(st.sampled_from(["", "CUT:"]), min_size=1, max_size=10),
    st.sampled_from([0.0, 0.02, 0.2]),
    st.integers(2, 6),
    st.sampled_from([0.0, 1.0]),
    st.booleans(),
    st.booleans(),
)
def test_the_pairs_are_the_same_with_and_without(
    seed: int, cuts: list[str], broken: float, min_scored: int, margin: float, cut_off: bool, consensus: bool
) -> None:
    answers = [f"{cut}Answer {number % 8} speaks." for number, cut in enumerate(cuts)]  # some answers are the same
    scorers = [*SCORERS, *([{"scorer": "consensus", "similarity": "rouge_l", "weight": 3.0}] if consensus else [])]
    pairing = {"min_scored": min_scored, "min_margin": margin, "cut_off_as_chosen": cut_off}
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
    assert isinstance(after, Pair)
    assert (after.chosen_index, after.rejected_index) == (9, 0)
    assert full.calls["support"] == 200
    assert pruned.calls["support"] <= 100
    reasons = [each.reason for each in judgements if each.scorer == "faithfulness"]
    assert reasons.count("pruned") >= 5
    assert reasons[0] is reasons[9] is None


def test_a_rule_that_looks_at_the_middle_judges_everything() -> None:
    judge = ScriptedJudge(spread_judge)
    outcome(recipe_with(True, SCORERS, rule="best_vs_lower_half"), judge, [f"Answer {q} speaks." for q in range(10)])
    assert judge.calls["support"] == 200


def test_enough_answers_stay_fully_scored() -> None:
    judge = ScriptedJudge(spread_judge)
    _, judgements = outcome(recipe_with(True, SCORERS, min_scored=5), judge, [f"Answer {q} speaks." for q in range(10)])
    scored = [each for each in judgements if each.scorer == "faithfulness" and each.score is not None]
    assert 5 <= len(scored) < 10
