"""Pairing: golden cases for each rule and each drop, and what holds whatever the answers are."""

import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import RecipeError
from infra.recipe import Pairing
from tasks.metrics import likeness
from tasks.pairing import Ranked, extremes_alone, find_rule, known_rules, pair_example
from tasks.records.example import STRONG, Answer, Drop, Example, Pair

EXAMPLE = Example("e", "q", "c", (), "qa", "en", "{}")


def answer(index: int, text: str, reason: str = "stop") -> Answer:
    return Answer("e", index, text, reason, 1, 1, "default", "")


def outcomes(
    rewards: list[float | None],
    texts: list[str] | None = None,
    cut: tuple[int, ...] = (),
    seed: int = 0,
    **settings: Any,
) -> list[Pair] | Drop:
    texts = texts or [f"text {chr(97 + i)}{i}" for i in range(len(rewards))]
    answers = [answer(i, text, "length" if i in cut else "stop") for i, text in enumerate(texts)]
    return pair_example(EXAMPLE, answers, {("e", i): r for i, r in enumerate(rewards)}, Pairing(**settings), seed)


def outcome(rewards: list[float | None], *args: Any, **settings: Any) -> Pair | Drop:
    return only(outcomes(rewards, *args, **settings))


def only(found: list[Pair] | Drop) -> Pair | Drop:
    if isinstance(found, Drop):
        return found
    (pair,) = found
    return pair


def couples(found: list[Pair] | Drop) -> list[tuple[int, int]]:
    assert isinstance(found, list), found
    return [(pair.chosen_index, pair.rejected_index) for pair in found]


def reason(found: Pair | Drop) -> tuple[str, str]:
    assert isinstance(found, Drop), found
    return found.stage, found.reason


def indices(found: Pair | Drop) -> tuple[int, int]:
    assert isinstance(found, Pair), found
    return found.chosen_index, found.rejected_index


def test_best_and_worst_make_a_pair() -> None:
    found = outcome([0.2, 0.9, 0.1, 0.5], rule="best_vs_worst")
    assert found == Pair("e", "c", 1, 2, 0.9, 0.1, 0.8)


def test_the_lower_half_is_the_last_half_and_with_an_odd_count_leaves_the_middle_out() -> None:
    drawn = {indices(outcome([0.5, 0.4, 0.3, 0.2, 0.1], seed=seed)) for seed in range(40)}
    assert drawn == {(0, 3), (0, 4)}
    drawn = {indices(outcome([0.1, 0.6, 0.5, 0.2, 0.4, 0.3], seed=seed)) for seed in range(60)}
    assert drawn == {(1, 5), (1, 3), (1, 0)}
    assert indices(outcome([0.1, 0.2])) == (1, 0)


def test_the_draw_depends_on_seed_and_example_alone() -> None:
    rewards = {(name, i): i / 10 for name in "ef" for i in range(10)}

    def drawn(name: str, seed: int) -> int:
        answers = [Answer(name, i, f"text {i}", "stop", 1, 1, "default", "") for i in range(10)]
        example = Example(name, "q", "c", (), "qa", "en", "{}")
        return couples(pair_example(example, answers, rewards, Pairing(), seed))[0][1]

    assert [drawn("e", seed) for seed in range(20)] == [drawn("e", seed) for seed in range(20)]
    assert [drawn("e", seed) for seed in range(20)] != [drawn("f", seed) for seed in range(20)]
    assert len({drawn("e", seed) for seed in range(20)}) > 1


def test_without_any_text_the_question_is_dropped_at_sampling_with_the_outcomes() -> None:
    found = pair_example(
        EXAMPLE,
        [answer(0, "", "prompt_too_long"), answer(1, " ", "stop"), answer(-1, "greedy")],
        {("e", 0): 1.0},
        Pairing(),
        0,
    )
    assert found == Drop("e", "sample", "no_answers", "prompt_too_long: 1, stop: 1")
    assert reason(only(pair_example(EXAMPLE, [], {}, Pairing(), 0))) == ("sample", "no_answers")


def test_a_question_whose_answers_never_got_beyond_their_thinking_has_a_reason_of_its_own() -> None:
    def dropped(*reasons: str) -> Drop | Pair:
        answers = [answer(index, "", reason) for index, reason in enumerate(reasons)]
        return only(pair_example(EXAMPLE, answers, {}, Pairing(), 0))

    never = dropped("unfinished_thinking", "unfinished_thinking")
    assert never == Drop("e", "sample", "unfinished_thinking", "unfinished_thinking: 2")
    both = dropped("unfinished_thinking", "stop")
    assert both == Drop("e", "sample", "no_answers", "stop: 1, unfinished_thinking: 1")


def test_answers_without_a_reward_do_not_count() -> None:
    assert reason(outcome([0.5, None, None])) == ("pair", "too_few_scored")
    assert reason(outcome([0.5, 0.4, None], min_scored=3)) == ("pair", "too_few_scored")
    assert indices(outcome([0.5, 0.4, None])) == (0, 1)


def test_an_answer_without_text_is_neither_chosen_nor_rejected() -> None:
    assert indices(outcome([0.9, 0.5, 0.4, 0.1], ["", "x", "y", " "], rule="best_vs_worst")) == (1, 2)


def test_equal_rewards_make_no_pair() -> None:
    assert reason(outcome([0.5, 0.5, 0.5])) == ("pair", "tie")


def test_of_equal_best_answers_the_hash_of_the_text_decides() -> None:
    found = [indices(outcome([0.9, 0.9, 0.1], ["x", "y", "z"])), indices(outcome([0.9, 0.9, 0.1], ["y", "x", "z"]))]
    assert found in ([(0, 2), (1, 2)], [(1, 2), (0, 2)])


def test_a_margin_below_the_least_is_a_drop_and_an_equal_one_is_not() -> None:
    assert reason(outcome([0.5, 0.4], min_margin=0.2)) == ("pair", "small_margin")
    assert indices(outcome([0.3, 0.1], min_margin=0.2)) == (0, 1)  # 0.3 - 0.1 is 0.19999999999999998 in binary


def test_an_answer_of_the_lower_half_that_is_too_near_gives_way_to_another() -> None:
    for seed in range(10):
        assert indices(outcome([0.9, 0.8, 0.7, 0.1], min_margin=0.5, seed=seed)) == (0, 3)


def test_a_text_equal_or_too_like_the_chosen_is_never_rejected() -> None:
    for seed in range(10):
        texts = ["red fox", "blue dog", " red  fox", "green cat"]
        assert indices(outcome([0.9, 0.8, 0.2, 0.1], texts, seed=seed)) == (0, 3)
    assert reason(outcome([0.9, 0.1], ["red fox", "red fox\n"], max_likeness=1.0)) == ("pair", "near_identical")
    assert reason(outcome([0.9, 0.1], ["red fox", "fox red"])) == ("pair", "near_identical")
    assert indices(outcome([0.9, 0.1], ["red fox", "fox red"], max_likeness=1.0)) == (0, 1)
    assert reason(outcome([0.9, 0.1], ["red fox", "red dog"], max_likeness=0.4)) == ("pair", "near_identical")
    assert indices(outcome([0.9, 0.1], ["red fox", "red dog"], max_likeness=0.5)) == (0, 1)


def test_a_cut_off_answer_is_chosen_only_when_the_recipe_says_so() -> None:
    assert indices(outcome([0.9, 0.5, 0.1], cut=(0,), rule="best_vs_worst")) == (1, 2)
    assert indices(outcome([0.9, 0.5, 0.1], cut=(0,), rule="best_vs_worst", cut_off_as_chosen=True)) == (0, 2)
    assert indices(outcome([0.9, 0.1], cut=(1,))) == (0, 1)
    assert reason(outcome([0.9, 0.1], cut=(0, 1))) == ("pair", "cut_off")
    assert reason(outcome([0.9, 0.1], cut=(0,))) == ("pair", "cut_off")


def test_best_vs_worst_takes_no_answer_above_the_lowest() -> None:
    texts = ["red fox", "blue dog", "red fox"]
    assert reason(outcome([0.9, 0.5, 0.1], texts, rule="best_vs_worst")) == ("pair", "near_identical")
    texts = ["red fox", "red fox", "blue dog"]
    assert indices(outcome([0.9, 0.1, 0.1], texts, rule="best_vs_worst")) == (0, 2)


def test_a_rule_that_there_is_not_is_named() -> None:
    with pytest.raises(RecipeError, match=r"best_of_all.*best_vs_lower_half, best_vs_worst"):
        find_rule("best_of_all")


WORDS = st.sampled_from(["red fox", "red  fox", "blue dog", "red dog", "", "red fox ran far", "红狐狸"])
ANSWERS = st.lists(
    st.tuples(WORDS, st.sampled_from([None, 0.0, 0.1, 0.3, 0.5, 1.0]), st.sampled_from(["stop", "length"])), max_size=9
)


@given(ANSWERS, st.sampled_from(sorted(known_rules())), st.sampled_from([0.0, 0.2]), st.integers(0, 5), st.randoms())
def test_a_pair_keeps_its_promises_in_any_order_of_arrival(
    drawn: list[tuple[str, float | None, str]], rule: str, margin: float, seed: int, shuffle: random.Random
) -> None:
    answers = [answer(i, text, reason) for i, (text, _, reason) in enumerate(drawn)]
    rewards = {("e", i): reward for i, (_, reward, _) in enumerate(drawn)}
    settings = Pairing(rule=rule, min_margin=margin, max_likeness=0.9)
    several = pair_example(EXAMPLE, answers, rewards, settings, seed)
    assert pair_example(EXAMPLE, shuffle.sample(answers, len(answers)), rewards, settings, seed) == several
    found = only(several)
    if not isinstance(found, Pair):
        return
    chosen, rejected = answers[found.chosen_index], answers[found.rejected_index]
    assert chosen.text.split() != rejected.text.split()
    assert chosen.text.strip()
    assert rejected.text.strip()
    assert chosen.finish_reason != "length"
    assert found.margin >= max(margin, 1e-6)
    assert found.margin == round(found.chosen_reward - found.rejected_reward, 6)
    whole = [r for a, r in zip(answers, rewards.values(), strict=True) if r is not None and a.text and a is not chosen]
    if rule == "best_vs_worst":
        assert found.rejected_reward == min(whole)
    assert find_rule(rule).rank or all(
        found.chosen_reward >= reward
        for each, reward in zip(answers, rewards.values(), strict=True)
        if reward is not None and each.text and each.finish_reason == "stop"
    )


@pytest.mark.parametrize("count", range(2, 9))
def test_the_lower_half_rule_gives_each_of_the_last_half_once(count: int) -> None:
    ranking = [Ranked(answer(i, f"t{i}"), 1 - i / 10) for i in range(count)]
    found = find_rule("best_vs_lower_half").candidates(ranking, random.Random(1))
    assert sorted(each.answer.sample_index for each in found) == list(range(count - count // 2, count))


FIVE = [0.2, 0.9, 0.1, 0.5, 0.7]  # best first: 1, 4, 3, 0, 2


def test_five_answers_give_the_widest_margins_of_new_answers_first() -> None:
    def found(count: int, **settings: Any) -> list[tuple[int, int]]:
        return couples(outcomes(FIVE, rule="best_vs_worst", pairs_per_question=count, **settings))  # type: ignore[arg-type]

    three = [(1, 2), (4, 0), (1, 3)]  # 0.8; 0.5 inwards; the fifth answer's widest, 0.4
    assert [found(count) for count in (1, 2, 3)] == [three[:1], three[:2], three]
    rest = [(1, 0), (4, 2), (3, 2), (3, 0), (1, 4), (4, 3), (0, 2)]  # 0.7, 0.6, 0.4, 0.3, 0.2, 0.2, 0.1
    assert found(64) == three + rest
    assert found(64, min_margin=0.3) == three + rest[:4]
    texts = ["a", "b c", "d", "b e", "f"]  # answers 1 and 3 share a word
    unlike = outcomes(FIVE, texts, rule="best_vs_worst", pairs_per_question=64, max_likeness=0.4)  # type: ignore[arg-type]
    assert couples(unlike) == [(1, 2), (4, 0), (3, 2), *(each for each in rest if each != (3, 2))]


def test_a_cut_off_answer_is_chosen_in_no_pair_but_may_be_rejected() -> None:
    found = outcomes([0.9, 0.6, 0.4, 0.1], cut=(0, 2), rule="best_vs_worst", pairs_per_question=64)
    assert couples(found) == [(1, 3), (1, 2)]


def test_samples_of_one_text_are_one_answer() -> None:
    texts = ["red fox", "blue dog", " red  fox", "green cat"]
    found = outcomes([0.9, 0.6, 0.4, 0.1], texts, rule="best_vs_worst", pairs_per_question=64)
    assert couples(found) == [(0, 3), (1, 3), (0, 1)]
    twice = outcomes([0.9, 0.6, 0.1], ["red fox", "blue dog", "blue dog"], rule="best_vs_worst", pairs_per_question=64)
    assert couples(twice) == [(0, 2)]  # the first pair's sample speaks for its text


def test_of_the_halves_each_upper_answer_meets_another_one_drawn_before_any_comes_again() -> None:
    for seed in range(20):
        found = couples(outcomes([0.6, 0.5, 0.4, 0.3, 0.2, 0.1], seed=seed, pairs_per_question=64))
        assert [chosen for chosen, _ in found[:3]] == [0, 1, 2]
        assert {rejected for _, rejected in found[:3]} == {3, 4, 5}
        assert len(found) == 9 == len(set(found))
        middle = couples(outcomes([0.5, 0.4, 0.3, 0.2, 0.1], seed=seed, pairs_per_question=64))
        assert sorted(middle) == [(0, 3), (0, 4), (1, 3), (1, 4)]


@pytest.mark.medium
@given(ANSWERS, st.sampled_from(sorted(known_rules())), st.sampled_from([0.0, 0.2]), st.integers(0, 5), st.randoms())
def test_several_pairs_begin_with_the_one_and_keep_its_promises(
    drawn: list[tuple[str, float | None, str]], rule: str, margin: float, seed: int, shuffle: random.Random
) -> None:
    answers = [answer(i, text, reason) for i, (text, _, reason) in enumerate(drawn)]
    answers.append(answer(STRONG, "of the strong one"))
    rewards = {("e", i): reward for i, (_, reward, _) in enumerate(drawn)}

    def found(count: int) -> list[Pair] | Drop:
        settings = Pairing(rule=rule, min_margin=margin, max_likeness=0.9, pairs_per_question=count)
        arrived = shuffle.sample(answers, len(answers))
        return pair_example(EXAMPLE, arrived, rewards, settings, seed)

    every = found(64)
    if isinstance(every, Drop):
        assert found(1) == every
        return
    assert every
    assert all(found(count) == every[:count] for count in (1, 2, 3, 5))
    by_index = {each.sample_index: each for each in answers}
    spoken = {index: tuple(by_index[index].text.split()) for couple in couples(every) for index in couple}
    assert len(set(spoken.values())) == len(spoken)
    assert len(set(couples(every))) == len(every)
    for pair in every:
        assert by_index[pair.chosen_index].finish_reason == "stop"
        assert pair.margin >= max(margin, 1e-6)
        assert likeness(by_index[pair.chosen_index].text, by_index[pair.rejected_index].text) <= 0.9
        assert rule != "contrast" or pair.chosen_index == STRONG
    for first, second in itertools.combinations(spoken, 2) if rule == "best_vs_worst" else ():
        high, low = sorted((first, second), key=lambda index: -(rewards["e", index] or 0))
        apart = round((rewards["e", high] or 0) - (rewards["e", low] or 0), 6)
        may = by_index[high].finish_reason == "stop" and likeness(by_index[high].text, by_index[low].text) <= 0.9
        assert ((high, low) in couples(every)) == (may and apart > 0 and apart >= margin)


GOLD = Example("e", "q", "c", ("Rome", "Oslo"), "list", "en", "{}")


def baseline(rule: str, texts: list[str], example: Example = EXAMPLE, seed: int = 0, rewards: Any = ()) -> Pair | Drop:
    answers = [answer(index, text) for index, text in enumerate(texts)]
    known = {("e", index): reward for index, reward in enumerate(rewards)}
    return only(pair_example(example, answers, known, Pairing(rule=rule), seed))


def test_random_pairs_know_no_reward_and_name_every_answer_alike_often() -> None:
    texts = ["one a", "two b", "three c", "four d"]
    drawn = [indices(baseline("random_pair", texts, seed=seed)) for seed in range(240)]
    assert drawn == [indices(baseline("random_pair", texts, seed=seed, rewards=[1, 0, 0, 0])) for seed in range(240)]
    for place in range(2):
        counts = [sum(each[place] == index for each in drawn) for index in range(4)]
        assert min(counts) > 35, counts  # 60 are expected
    answers = [answer(i, texts[i]) for i in (2, 0, 3, 1)]
    shuffled = only(pair_example(EXAMPLE, answers, {}, Pairing(rule="random_pair"), 7))
    assert indices(shuffled) == indices(baseline("random_pair", texts, seed=7))


def test_oracle_pairs_go_by_the_references_whatever_the_rewards_say() -> None:
    texts = ["Rome alone", "Rome and Oslo", "neither", "nothing of both"]
    found = [baseline("oracle", texts, GOLD, seed, rewards=[9, 0, 8, 7]) for seed in range(20)]
    assert {indices(each)[0] for each in found} == {1}
    assert {indices(each)[1] for each in found} == {2, 3}  # one of the worst, drawn
    assert isinstance(found[0], Pair)
    assert (found[0].chosen_reward, found[0].rejected_reward) == (1.0, 0.0)
    assert reason(baseline("oracle", ["neither", "nothing"], GOLD)) == ("pair", "tie")
    assert reason(baseline("oracle", texts)) == ("pair", "too_few_scored")  # there are no references


def test_answers_of_equal_reward_are_no_pair_even_where_any_margin_will_do() -> None:
    pairs = outcomes([0.9, 0.5, 0.5, 0.1], rule="best_vs_worst", min_margin=0.0, pairs_per_question=64)
    assert sorted(couples(pairs)) == [(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)]


def test_only_one_pair_of_best_and_worst_depends_on_the_extremes_alone() -> None:
    assert {name for name in known_rules() if extremes_alone(Pairing(rule=name))} == {"best_vs_worst"}
    assert not extremes_alone(Pairing(rule="best_vs_worst", pairs_per_question=2))
