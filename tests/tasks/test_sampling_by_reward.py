"""The rule `margin`: answers are scored round by round, and a question with a good pair gets no more of them."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.utilities.annotations import quote

from infra.errors import RecipeError
from infra.models.protocol import Request
from infra.models.refusals.recorded import RecordedRefusals
from infra.recipe import Recipe
from infra.store import open_store
from tasks.planning.make_plan import make_plan
from tasks.records.plan import load_shard
from tasks.sampling import recorded_calls
from tasks.sampling_by_reward import sample_by_reward
from tasks.scoring import ScoringContext
from tasks.scoring.run import InThread
from tasks.shard_tasks import ShardInMemory
from tests.support.drawing import InMemoryPolicy
from tests.support.memory_ledger import MemoryLedger
from tests.support.planning import small_recipe
from tests.support.recipes_for_scoring import no_embedder

SAMPLES = 16
STOP = {"rule": "margin", "margin": 0.5, "min_samples": 4, "per_round": 4}
FIRST_RIGHT = {"early": 1, "late": 9, "never": SAMPLES}  # sample from which on answers are right


def say(request: Request) -> str:
    question = next(name for name in FIRST_RIGHT if f"the {name} lamp" in request.prompt.messages[-1]["content"])
    return f"Answer: {'violet' if request.sample_index >= FIRST_RIGHT[question] else 'red'}"


def recipe_in(folder: Path, scorer: str = "references", stop: dict[str, Any] | None = None) -> Recipe:
    rows = []
    for name in FIRST_RIGHT:
        question = f"What colour is the {name} lamp?"
        rows.append({"id": name, "question": question, "context": f"A lamp, {name}.", "answers": ["violet"]})
    return small_recipe(
        folder,
        rows,
        sampling={"samples": SAMPLES, "greedy": True, "stop": STOP if stop is None else stop},
        scoring={"scorers": [{"scorer": scorer}]},
        pairing={"rule": "best_vs_worst"},
        contexts={"build": "given"},
    )


def run_task(task: Any, arguments: tuple[Any, ...], *_: Any) -> tuple[Any, bool]:
    return task.fn(*[each.unquote() if isinstance(each, quote) else each for each in arguments]), False


def shard_of(recipe: Recipe, policy: InMemoryPolicy) -> ShardInMemory:
    store = open_store(recipe.store)
    plan = make_plan(recipe, store)
    ledger = MemoryLedger()
    resources: Any = SimpleNamespace(
        recipe=recipe,
        store=store,
        ledger=ledger,
        refusals=RecordedRefusals(),
        policy=policy,
        strong=None,
        scoring=lambda: ScoringContext(no_embedder, None, recipe),
    )
    return ShardInMemory(resources, plan, 0, *load_shard(store, plan, 0), run_task)


def test_a_question_is_drawn_until_it_has_a_pair_with_the_margin(tmp_path: Path) -> None:
    policy = InMemoryPolicy(say)
    shard = shard_of(recipe_in(tmp_path), policy)
    answers, judgements = sample_by_reward(shard, (0, 3), InThread(shard.resources.scoring()))
    samples = Counter(answer.example_id for answer in answers if answer.sample_index >= 0)
    assert samples == {"early": 4, "late": 12, "never": SAMPLES}
    assert [len(requests) for requests in policy.rounds] == [3 * 4 + 3, 8, 8, 4]
    assert Counter(judgement.example_id for judgement in judgements) == samples  # each answer once, the greedy never
    assert [answer.sample_index for answer in answers if answer.example_id == "early"] == [0, 1, 2, 3, -1]
    again = InMemoryPolicy(say)
    assert sample_by_reward(shard_of(shard.resources.recipe, again), (0, 3), InThread(shard.resources.scoring())) == (
        answers,
        judgements,
    )
    assert again.rounds == policy.rounds


def test_a_plan_knows_no_later_round_that_was_not_drawn(tmp_path: Path) -> None:
    shard = shard_of(recipe_in(tmp_path), InMemoryPolicy(say))
    recorded = recorded_calls(shard.examples, shard.contexts, shard.resources.recipe, shard.resources.ledger)
    assert Counter(request.kind for request, _ in recorded.calls) == {"sample": 12, "greedy": 3}
    assert (recorded.later.least, recorded.later.most) == (0, 3 * (SAMPLES - 4))


@pytest.mark.parametrize(
    ("scorer", "stop", "fault"),
    [
        ("claims", STOP, "claims compares the answers of a question"),
        ("references", {"rule": "margin"}, r"sampling\.stop\.margin: Field required"),
    ],
)
def test_what_does_not_go_with_it_is_named(tmp_path: Path, scorer: str, stop: dict[str, Any], fault: str) -> None:
    recipe = recipe_in(tmp_path, scorer, stop)
    with pytest.raises(RecipeError, match=fault):
        make_plan(recipe, open_store(recipe.store))
