"""A stopping rule saves samples of questions that are decided, asks the same as without it, and pays nothing twice."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import RecipeError
from infra.ledger import Ledger
from infra.models.protocol import Request, new_entry
from infra.recipe import Recipe
from infra.store import Store, open_store
from tasks.judging.answer_groups import group_answers
from tasks.planning.estimate import estimate
from tasks.planning.make_plan import make_plan
from tasks.records.example import Answer, Example
from tasks.records.plan import Plan
from tasks.reporting.sample_tables import sample_rows
from tasks.sampling import recorded_calls, saved_samples
from tasks.stopping import is_decided
from tasks.stopping.consensus import overtaking_chance
from tests.support.drawing import InMemoryPolicy, drawn
from tests.support.planning import small_recipe

SAMPLES = 24
STOP = {"rule": "consensus", "min_samples": 8, "per_round": 4}
QUESTIONS = ("clear", "open", "unanimous")


def say(request: Request) -> str:
    """One in eight differs on the clear question, every second on the open one, none on the unanimous one."""
    question = next(name for name in QUESTIONS if f"the {name} lamp" in request.prompt.messages[-1]["content"])
    minority = {"clear": request.sample_index % 8 == 3, "open": request.sample_index % 2 == 1, "unanimous": False}
    return f"The lamp.\nAnswer: {'red' if minority[question] else 'violet'}"


@pytest.fixture
def work(tmp_path: Path) -> Iterator[tuple[Recipe, Store, Plan, Ledger]]:
    rows: list[dict[str, Any]] = []
    for name in QUESTIONS:
        rows.append({"id": name, "question": f"What colour is the {name} lamp?", "context": f"A lamp, {name}."})
    recipe = small_recipe(
        tmp_path, rows, sampling={"samples": SAMPLES, "greedy": True, "stop": STOP}, contexts={"build": "given"}
    )
    store = open_store(recipe.store)
    with Ledger(store) as ledger:
        yield recipe, store, make_plan(recipe, store), ledger


def record(ledger: Ledger, requests: list[Request]) -> None:
    for request in requests:
        message = {"message": {"content": say(request)}, "finish_reason": "stop"}
        reply = json.dumps({"choices": [message], "usage": {"prompt_tokens": 100, "completion_tokens": 7}})
        asyncio.run(ledger.record(new_entry(request, 200, reply, 0.0, 100, 7)))


def test_a_decided_question_gets_no_more_samples_and_those_that_it_has_are_the_same(
    work: tuple[Recipe, Store, Plan, Ledger],
) -> None:
    recipe, store, plan, _ = work
    policy, every = InMemoryPolicy(say), InMemoryPolicy(say)
    examples, _, answers = drawn(store, plan, recipe, policy)
    all_samples = recipe.model_copy(update={"sampling": recipe.sampling.model_copy(update={"stop": None})})
    drawn(store, plan, all_samples, every)
    assert [len(requests) for requests in policy.rounds] == [3 * 8 + 3, 8, 8, 8, 8]
    samples = Counter(answer.example_id for answer in answers if answer.sample_index >= 0)
    assert samples == {"clear": 8, "open": SAMPLES, "unanimous": SAMPLES}
    assert saved_samples(len(examples), answers, recipe) == SAMPLES - 8
    asked = {request.key for requests in policy.rounds for request in requests}
    assert asked < {request.key for requests in every.rounds for request in requests}
    assert [answer.sample_index for answer in answers if answer.example_id == "clear"] == [*range(8), -1]


@pytest.mark.medium
def test_a_plan_tells_the_range_and_a_stopped_run_goes_on_with_what_is_paid(
    work: tuple[Recipe, Store, Plan, Ledger],
) -> None:
    recipe, store, plan, ledger = work
    view = estimate(plan, recipe, store, ledger).to_json()
    assert view["calls"]["sample"] == {
        "total": 72, "held": 0, "to_make": 72, "range": {"low": 24, "expected": 48, "high": 72}
    }  # fmt: skip
    assert view["tokens"]["output"] == {"low": 27 * 8, "expected": 51 * 32, "high": 75 * 64}
    policy = InMemoryPolicy(say)
    examples, contexts, _ = drawn(store, plan, recipe, policy)
    record(ledger, policy.rounds[0])
    after = estimate(plan, recipe, store, ledger)
    # One question is decided with 8 samples; the next 4 of the others are sure, and 12 of each may follow.
    assert after.to_json()["calls"]["sample"] == {
        "total": 56, "held": 24, "to_make": 32, "range": {"low": 8, "expected": 8, "high": 32}
    }  # fmt: skip
    left = after.input_tokens_total - (24 + 3) * 100  # of the 48 samples that there might have been
    assert after.input_tokens == round(left * 8 / 48)
    again = InMemoryPolicy(say)
    drawn(store, plan, recipe, again)
    assert again.rounds == policy.rounds
    record(ledger, [request for requests in policy.rounds[1:] for request in requests])
    done = estimate(plan, recipe, store, ledger).to_json()
    assert done["calls"]["sample"]["range"] == {"low": 0, "expected": 0, "high": 0}
    assert (done["tokens"]["input"], done["cost"]["high"]) == (0, 0)
    recorded = recorded_calls(examples, contexts, recipe, ledger, plan.special_tokens)
    assert len(recorded.calls) == 8 + 2 * SAMPLES + 3


def test_the_chance_of_being_overtaken_is_exact_at_its_ends() -> None:
    assert overtaking_chance(7, 1, 5) == 0.0  # five more cannot bring six
    assert overtaking_chance(3, 3, 0) == 1.0
    assert overtaking_chance(4, 3, 0) == 0.0
    # One more of each kind is left: the other group has to get it. Its chance is 3/7 by the rule of succession.
    assert overtaking_chance(3, 2, 1) == pytest.approx(3 / 7)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 40))
def test_it_is_a_chance_and_falls_with_the_lead(largest: int, other: int, left: int) -> None:
    chance = overtaking_chance(largest, other, left)
    assert -1e-9 <= chance <= 1 + 1e-9
    assert overtaking_chance(largest + 1, other, left) <= chance + 1e-9


EXAMPLE = Example("q", "What colour?", "c", (), "", "en", "{}")


def answers_of(*texts: str) -> list[Answer]:
    return [Answer("q", index, text, "stop", 1, 1, "default", "") for index, text in enumerate(texts)]


def test_answers_are_one_group_by_the_words_of_their_final_answers() -> None:
    answers = answers_of("I see.\nAnswer: The red lamp", "Answer: lamp, red.", "Answer: blue", "", "Answer: dark blue")
    assert group_answers(answers) == [[0, 1], [2], [4]]
    assert group_answers(answers, 0.6) == [[0, 1], [2, 4]]


def test_failures_count_as_samples_but_not_as_answers(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, sampling={"samples": 10, "stop": {**STOP, "min_samples": 9, "confidence": 1}})
    texts = ["Answer: red"] * 3 + ["Answer: blue"] + [""] * 5
    assert is_decided(EXAMPLE, answers_of(*texts), recipe)  # one more sample cannot bring two
    assert not is_decided(EXAMPLE, answers_of(*["Answer: red", "Answer: blue"], *[""] * 7), recipe)
    assert not is_decided(EXAMPLE, answers_of(*texts[:8]), recipe)  # fewer than min_samples


@pytest.mark.parametrize(
    ("stop", "sections", "fault"),
    [
        ({"rule": "nosuch"}, {}, r"sampling\.stop\.rule: there is no 'nosuch'; there are: consensus"),
        ({**STOP, "confidense": 1}, {}, r"sampling\.stop\.confidense: consensus has no such option"),
        ({**STOP, "min_samples": 3}, {"pairing": {"min_scored": 5}}, r"pairing\.min_scored asks for 5"),
        (STOP, {"pairing": {"rule": "random_pair"}}, r"goes with pairing\.rule best_vs_lower_half or best_vs_worst"),
    ],
)
def test_what_does_not_go_together_is_named(
    tmp_path: Path, stop: dict[str, Any], sections: dict[str, Any], fault: str
) -> None:
    rows = [{"id": "q", "question": "What?", "context": "Nothing."}]
    recipe = small_recipe(
        tmp_path, rows, sampling={"samples": 12, "stop": stop}, contexts={"build": "given"}, **sections
    )
    with pytest.raises(RecipeError, match=fault):
        make_plan(recipe, open_store(recipe.store))


def test_a_card_tells_what_was_drawn_and_what_was_saved() -> None:
    summary: Any = SimpleNamespace(questions=3, answers=56, histograms={"sample_tokens": ((10, 50), (20, 6))})
    columns, rows = sample_rows(summary, {"samples": SAMPLES, "stop": STOP})
    assert len(columns) == 4
    assert rows == [
        ["drawn", "56", "77.8%", "620"],
        ["saved by consensus", "16", "22.2%", "about 177"],
    ]
    assert sample_rows(summary, {"samples": SAMPLES, "stop": None})[1] == []
