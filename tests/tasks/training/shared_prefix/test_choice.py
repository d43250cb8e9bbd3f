"""Sharing is chosen where lengths say it pays and the model allows it; what was chosen is told."""

import functools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import TrainingError
from infra.recipe import Training
from tasks.training.shared_prefix.choice import plan_sharing
from tasks.training.shared_prefix.cost import (
    ATTENTION_PRICE,
    HEAD_PRICE,
    ModelCost,
    predicted_speedup,
    shared_cost,
    stock_cost,
)
from tasks.training.shared_prefix.layout import Tree
from tests.support.shared_pairs import random_model

pytestmark = pytest.mark.slow  # torch and the trainers take seconds to load

COST = ModelCost(linear=1000, attention=2, head=500)
TREES = (Tree(60, (4, 3, 4)), Tree(2, (30, 30)))


def test_costs_by_hand() -> None:
    assert stock_cost([Tree(10, (4, 4, 4))], COST) == 1000 * 42 + 2 * 3 * 14**2 / 2 + 500 * 12
    assert shared_cost([Tree(10, (4, 4, 4))], COST) == 1000 * 24 + 2 * (14**2 / 2 + 2 * 5 * 14) + 500 * 12
    trees = [Tree(10, (4, 2))]
    stock = 1000 * 2 * 14 + 2 * 2 * 14**2 + 500 * 6  # a padded batch is masked whole
    shared = 1000 * (10 + 4 + 1 + 2) + 2 * (14**2 / 2 + 3 * 12) + 500 * 6
    assert (stock_cost(trees, COST), shared_cost(trees, COST)) == (stock, shared)
    assert predicted_speedup(trees, COST) == stock / shared
    even = [Tree(10, (4, 4))]
    assert stock_cost(even, COST) == 1000 * 28 + 2 * 14**2 + 500 * 8  # causal, no mask
    everywhere = ModelCost(1000, 2, 500, head_everywhere=True)
    assert stock_cost(even, everywhere) == 1000 * 28 + 2 * 14**2 + 500 * 28
    assert shared_cost(even, everywhere) == shared_cost(even, COST)


@given(st.integers(1, 5000), st.integers(1, 2000), st.integers(2, 8))
def test_no_more_is_gained_than_the_number_of_answers_and_more_with_longer_prompts(
    prompt: int, answer: int, answers: int
) -> None:
    trees = [Tree(prompt, (answer,) * answers)]
    longer = [Tree(2 * prompt + 1, (answer,) * answers)]
    linear = ModelCost(1, 0, 0)
    assert predicted_speedup(trees, linear) < predicted_speedup(longer, linear) < answers


def test_short_prompts_and_long_answers_lose_by_attention() -> None:
    attention = ModelCost(0, 1, 0)
    assert predicted_speedup([Tree(100, (1000, 1000))], attention) < 1
    assert predicted_speedup([Tree(30_000, (500, 400))], attention) > 1.9


def test_the_shape_of_a_model_leaves_its_embeddings_out() -> None:
    cost = ModelCost.of(random_model(), head_everywhere=True)
    matrices = 16 * 16 * 2 + 2 * 16 * 8 + 3 * 16 * 24  # q and o, k and v of half the heads, and the feed-forward
    assert cost == ModelCost(2 * matrices, ATTENTION_PRICE * 2 * 2 * 4 * 4, HEAD_PRICE * 61 * 16, True)


def _plan(mode: Any, loss: str = "dpo", trees: Any = TREES, pack_tokens: int | None = None, **changes: Any) -> Any:
    settings = Training.model_validate({"sharing": mode, "loss": loss, "pack_tokens": pack_tokens})
    return plan_sharing(settings, _model(**changes), trees, 64)


@functools.cache
def _model(**changes: Any) -> Any:
    return random_model(**changes)


def test_auto_shares_the_pairs_that_gain_and_says_how_many() -> None:
    sharing, plan = _plan("auto", "orpo")
    assert (plan.questions, plan.shared) == (2, 1)
    assert plan.predicted_speedup > 1
    assert "1 of 2 questions" in plan.sentence() and f"{plan.predicted_speedup:.2f}" in plan.sentence()
    assert sharing.applies_to([Tree(60, (4, 3))]) and not sharing.applies_to([Tree(2, (30, 30))])
    assert not sharing.applied


def test_on_shares_all_and_off_none() -> None:
    sharing, plan = _plan("on")
    assert plan.shared == 2 and sharing.applies_to([Tree(1, (30, 30))])
    assert _plan("off")[0] is None and "off" in _plan("off")[1].sentence()


def test_packed_questions_are_all_read_in_the_shared_layout() -> None:
    sharing, plan = _plan("auto", pack_tokens=200)
    assert plan.shared == 2 and sharing.applies_to([TREES[1]])
    assert "share a pass of up to 200 tokens" in plan.sentence()
    with pytest.raises(TrainingError, match=r"no rotary.*pack_tokens to null and training.sharing to off"):
        _plan("auto", pack_tokens=200, architecture="gpt2")


def test_what_gains_nothing_keeps_the_stock_trainer() -> None:
    assert _plan("on", "sft")[0] is None
    sharing, plan = _plan("auto", "orpo", TREES[1:])
    assert sharing is None and "too short" in plan.sentence()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": "mistral", "sliding_window": 16}, "sliding window of 16 tokens, the longest row has 64"),
        ({"architecture": "qwen2", "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, "sliding"),
        ({"attn_implementation": "eager"}, "through transformers' interface"),
        ({"architecture": "qwen3_moe", "num_experts": 2, "moe_intermediate_size": 8}, "experts"),
        ({"architecture": "gpt2"}, "no rotary position embedding"),
    ],
    ids=["mistral", "qwen2-mixed", "eager", "experts", "gpt2"],
)
def test_models_that_cannot_share_are_refused_by_name(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(TrainingError, match=rf"{reason}.*set training.sharing to off"):
        _plan("on", **changes)
    sharing, plan = _plan("auto", **changes)
    assert sharing is None and reason in plan.reason


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "mistral", "sliding_window": 64},
        {"architecture": "mistral", "sliding_window": None},
        {"architecture": "qwen2", "sliding_window": 8},
        {"architecture": "qwen3"},
        {"architecture": "glm4"},
        {"architecture": "gpt_neox"},
    ],
    ids=["mistral-wide", "mistral", "qwen2", "qwen3", "glm4", "neox"],
)
def test_models_with_plain_rotary_attention_share(changes: dict[str, Any]) -> None:
    assert _plan("on", **changes)[0] is not None
