"""A bandit finds the chunk that holds the answer; it draws the same again, and pays nothing twice."""

import asyncio
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.ledger import Ledger
from infra.models.protocol import Request, new_entry
from infra.recipe import Recipe
from infra.store import Store, open_store
from tasks.metrics import reference_reward
from tasks.planning.estimate import estimate
from tasks.planning.make_plan import make_plan
from tasks.records.example import Answer, Example
from tasks.records.plan import Plan, load_shard
from tasks.samplers import bandit
from tasks.sampling import draw_answers, recorded_calls
from tests.support.drawing import InMemoryPolicy, drawn
from tests.support.planning import small_recipe

SAMPLES = 24
GOLD = "violet"
OPTIONS = {"chunk_tokens": 120, "chunks": 2, "start": "random"}


def row(number: int) -> dict[str, Any]:
    lines = [f"Line {line} of text {number} says nothing at all." for line in range(40)]
    lines[10 + 3 * number] = f"The lamp {number} is {GOLD}."
    return {"id": f"q{number}", "question": f"What is lamp {number}?", "context": "\n".join(lines), "answers": [GOLD]}


def say(request: Request) -> str:
    text = request.prompt.messages[-1]["content"]
    return f"Answer: {GOLD}" if GOLD in text else "Answer: I do not know"


@pytest.fixture
def work(tmp_path: Path) -> Iterator[tuple[Recipe, Store, Plan, Ledger]]:
    recipe = small_recipe(
        tmp_path,
        [row(number) for number in range(4)],
        sampling={"context": "bandit", "samples": SAMPLES, "greedy": True, "options": OPTIONS},
        scoring={"scorers": [{"scorer": "references"}]},
        contexts={"build": "given"},
    )
    store = open_store(recipe.store)
    with Ledger(store) as ledger:
        yield recipe, store, make_plan(recipe, store), ledger


def test_the_chunk_with_the_answer_is_seen_more_often_than_by_chance(
    work: tuple[Recipe, Store, Plan, Ledger],
) -> None:
    recipe, store, plan, _ = work
    policy = InMemoryPolicy(say)
    examples, contexts, answers = drawn(store, plan, recipe, policy)
    assert [len(requests) for requests in policy.rounds] == [4 + 4, *([4] * (SAMPLES - 1))]
    for example in examples:
        context = contexts[example.context_id]
        spans = bandit._chunks(context, 120, recipe.policy.tokenizer, False)
        gold = next(number for number, (start, end) in enumerate(spans) if GOLD in context.text[start:end])
        of_example = [answer for answer in answers if answer.example_id == example.example_id]
        assert [answer.sample_index for answer in of_example] == [*range(SAMPLES), -1]
        assert of_example[-1].seen is None
        samples = of_example[:-1]
        seen = Counter(number for answer in samples for number in bandit.seen_chunks(answer))
        assert len(seen) == len(spans)  # every arm is tried
        chance = SAMPLES * 2 / len(spans)
        assert seen[gold] > 1.5 * chance
        assert seen.most_common(1)[0][0] == gold
        for answer in samples:
            assert (GOLD in answer.text) == (gold in bandit.seen_chunks(answer))


def arms_by_hand(values: list[float], picks: list[list[int]], rewards: list[float], count: int) -> set[int]:
    """The paper's sampler in its own words, without rounding: values as running means, unseen arms first."""
    seen = [0] * len(values)
    values = list(values)
    for pick, reward in zip(picks, rewards, strict=True):
        for number in pick:
            seen[number] += 1
            values[number] += (reward - values[number]) / (seen[number] + 1)
    time = len(picks) + 1
    bounds = [
        value + math.sqrt(2 * math.log(time) / (of_arm + 1e-6)) for value, of_arm in zip(values, seen, strict=True)
    ]
    return set(sorted(range(len(values)), key=lambda number: -bounds[number])[:count])


def test_arms_are_those_of_the_papers_code() -> None:
    values = [0.31, 0.12, 0.55, 0.48, 0.07, 0.93, 0.26]
    rewards = [0.5, 0.0, 1.0, 0.25, 0.75, 0.0, 1.0, 0.5, 0.0, 1.0]
    arms = bandit._Arms(values)
    picks: list[list[int]] = []
    for step, reward in enumerate(rewards):
        best = arms.best(2, range(len(values)))
        assert set(best) == arms_by_hand(values, picks, rewards[:step], 2)
        arms.count(best)
        arms.reward(best, reward)
        picks.append(best)
    assert len({number for pick in picks for number in pick}) == len(values)


def record(ledger: Ledger, requests: list[Request]) -> None:
    for request in requests:
        message = {"message": {"content": say(request)}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 100, "completion_tokens": 7}
        reply = json.dumps({"choices": [message], "usage": usage})
        asyncio.run(ledger.record(new_entry(request, 200, reply, 0.0, 100, 7)))


@pytest.mark.medium
def test_a_run_that_was_stopped_asks_the_same_again_and_the_plan_knows_what_is_paid(
    work: tuple[Recipe, Store, Plan, Ledger],
) -> None:
    """What the ledger has of the first rounds is found again; a plan tells the calls that are left."""
    recipe, store, plan, ledger = work
    before = estimate(plan, recipe, store, ledger)
    assert before.calls["sample"].total == before.calls["sample"].to_make == 4 * SAMPLES
    around = plan.shards[0].prompt_tokens - sum(context.tokens for context in load_shard(store, plan, 0)[1].values())
    assert plan.shards[0].sample_tokens == SAMPLES * (4 * 2 * 120 + around)
    assert before.input_tokens_total == plan.shards[0].sample_tokens + plan.shards[0].prompt_tokens
    policy = InMemoryPolicy(say)
    drawn(store, plan, recipe, policy)
    paid = [request for requests in policy.rounds[:5] for request in requests]
    record(ledger, paid)
    after = estimate(plan, recipe, store, ledger)
    assert after.calls["sample"].in_ledger == 5 * 4
    assert after.calls["sample"].to_make == 4 * (SAMPLES - 5)
    assert after.calls["greedy"].to_make == 0
    again = InMemoryPolicy(say)
    drawn(store, plan, recipe, again)
    keys = [[request.key for request in requests] for requests in policy.rounds]
    assert [[request.key for request in requests] for requests in again.rounds] == keys
    record(ledger, [request for requests in policy.rounds[5:] for request in requests])
    examples, contexts = load_shard(store, plan, 0)
    recorded = recorded_calls(examples, contexts, recipe, ledger, plan.special_tokens).calls
    assert len(recorded) == 4 * (SAMPLES + 1)
    assert all(entry is not None for _, entry in recorded)


def test_rounds_of_several_samples_show_different_chunks(work: tuple[Recipe, Store, Plan, Ledger]) -> None:
    recipe, store, plan, _ = work
    sampling = recipe.sampling.model_copy(update={"options": {**OPTIONS, "per_round": 6}})
    policy = InMemoryPolicy(say)
    examples, contexts = load_shard(store, plan, 0)
    wanted = recipe.model_copy(update={"sampling": sampling})
    answers = draw_answers(examples, contexts, wanted, policy, None)  # type: ignore[arg-type]
    assert len(policy.rounds) == SAMPLES / 6
    first = [answer.seen for answer in answers[:6]]
    assert len(set(first)) == 6


def test_a_short_context_is_seen_whole(tmp_path: Path) -> None:
    short = row(0) | {"context": f"The lamp 0 is {GOLD}."}
    recipe = small_recipe(
        tmp_path, [short], sampling={"context": "bandit", "options": OPTIONS}, contexts={"build": "given"}
    )
    store = open_store(recipe.store)
    plan = make_plan(recipe, store)
    _, _, answers = drawn(store, plan, recipe, InMemoryPolicy(say))
    assert {answer.seen for answer in answers} == {None}
    assert plan.shards[0].sample_tokens == 3 * plan.shards[0].prompt_tokens


EXAMPLE = Example("q", "What colour?", "c", (GOLD,), "", "en", "{}")


def answers_of(*texts: str) -> list[Answer]:
    return [Answer("q", index, text, "stop", 1, 1, "default", "") for index, text in enumerate(texts)]


def test_rewards_are_the_mean_of_subem_and_f1_or_else_agreement() -> None:
    texts = (f"Answer: {GOLD}", f"It may be {GOLD}.\nAnswer: dark blue", "Answer: red", "")
    rewards = bandit.answer_rewards(EXAMPLE, answers_of(*texts), "references")
    assert rewards == {0: 1.0, 1: 0.5, 2: 0.0, 3: 0.0}
    assert reference_reward(texts[1], EXAMPLE) == 0.5
    plain = Example("q", "What colour?", "c", (), "", "en", "{}")
    agreeing = bandit.answer_rewards(plain, answers_of("Answer: red", "Answer: red", "Answer: blue"), "references")
    assert agreeing == {0: 0.5, 1: 0.5, 2: 0.0}
    assert bandit.answer_rewards(EXAMPLE, answers_of("Answer: red"), "consensus") == {0: 0.0}


def test_of_a_history_chunks_are_whole_turns(tmp_path: Path) -> None:
    turns = []
    for number in range(12):
        turns.append({"role": "user", "content": f"Question {number}, and some more words of it?"})
        turns.append({"role": "assistant", "content": f"Answer {number}, with a word or two more."})
    history = {"id": "h", "question": "What was answer 5?", "messages": turns, "answers": ["Answer 5"]}
    recipe = small_recipe(
        tmp_path,
        [history],
        sampling={"context": "bandit", "options": OPTIONS},
        contexts={"build": "history"},
        questions={"format": "messages"},
    )
    store = open_store(recipe.store)
    policy = InMemoryPolicy(lambda request: json.dumps(request.prompt.messages))
    _, _, answers = drawn(store, make_plan(recipe, store), recipe, policy)
    contents = {turn["content"] for turn in turns}
    for answer in answers:
        messages = json.loads(answer.text)
        roles = [message["role"] for message in messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"] * (len(roles) % 2)
        parts = [part for message in messages[:-1] for part in message["content"].split("\n\n")]
        assert len(parts) < len(turns)
        assert sum(part in contents for part in parts) >= len(parts) - 1  # one may be the beginning that was added
