"""Reading the prompt once changes nothing: losses and gradients are TRL's, pair by pair, averaged by question."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.shared_pairs import (
    PAIRS,
    TREES,
    Shape,
    double_precision,
    loss_and_gradients,
    make_trainer,
    tree_rows,
    trl_loss_and_gradients,
)

pytestmark = pytest.mark.slow  # torch and the trainers take seconds to load

DPO, LONGREWARD = {"loss": "dpo", "beta": 0.15}, {"loss": "dpo", "beta": 0.15, "sft_weight": 0.1}
ORPO, ORPO_ALL = {"loss": "orpo"}, {"loss": "orpo", "nll_over": "all"}
LOSSES = pytest.mark.parametrize("loss", [DPO, LONGREWARD, ORPO, ORPO_ALL], ids=["dpo", "dpo+sft", "orpo", "orpo-all"])


def _same(gradients: dict[str, Any], expected: dict[str, Any]) -> bool:
    return gradients.keys() == expected.keys() and all(
        float((gradients[name] - gradient).abs().max()) <= 1e-9 * max(1.0, float(gradient.abs().max()))
        for name, gradient in expected.items()
    )


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")


@LOSSES
@pytest.mark.parametrize("shapes", [PAIRS, TREES], ids=["pairs", "trees"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
def test_loss_and_gradients_are_trls(
    tmp_path: Path, loss: dict[str, Any], shapes: Sequence[Shape], architecture: str, method: str, checkpointing: bool
) -> None:
    recipe = {**loss, "method": method, "gradient_checkpointing": checkpointing}
    options: dict[str, Any] = {"architecture": architecture, "shapes": shapes, **recipe}
    with double_precision():
        stock = make_trainer(tmp_path, shared=False, **options)
        trl, trl_gradients = trl_loss_and_gradients(stock, loss)
        apart, apart_gradients, apart_logged = loss_and_gradients(stock)
        shared, gradients, logged = loss_and_gradients(
            make_trainer(tmp_path, shared=True, device_batch_size=len(shapes), **options)
        )
        packed, packed_gradients, packed_logged = loss_and_gradients(
            make_trainer(tmp_path, shared=True, pack_tokens=30, **options)
        )
    assert max(float(gradient.abs().max()) for gradient in trl_gradients.values()) > 1e-3
    assert [apart, shared, packed] == pytest.approx([trl] * 3, rel=1e-9)
    for gradients_of_way in (apart_gradients, gradients, packed_gradients):
        assert _same(gradients_of_way, trl_gradients)
    assert logged.pop("shared_prompt") == packed_logged.pop("shared_prompt") == pytest.approx(1.0)
    assert logged == pytest.approx(apart_logged, rel=1e-9)
    assert packed_logged == pytest.approx(apart_logged, rel=1e-9)


@st.composite
def _shapes(draw: st.DrawFn) -> Shape:
    answers = draw(st.lists(st.integers(1, 7), min_size=2, max_size=5))
    places = st.integers(0, len(answers) - 1)
    pairs = st.tuples(places, places).filter(lambda pair: pair[0] != pair[1])
    return draw(st.integers(1, 9)), tuple(answers), tuple(draw(st.lists(pairs, min_size=1, max_size=6, unique=True)))


@pytest.fixture(scope="module", params=[LONGREWARD, ORPO_ALL], ids=["dpo+sft", "orpo-all"])
def trainers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("random")
    made = [make_trainer(folder, shared=shared, **request.param) for shared in (False, True)]
    return request.param, *made


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    shapes=st.lists(_shapes(), min_size=1, max_size=4),
    questions_per_pass=st.integers(1, 3),
    pack=st.none() | st.integers(1, 60),
)
def test_random_trees_however_they_go_through_have_trls_loss(
    trainers: Any, shapes: list[Shape], questions_per_pass: int, pack: int | None
) -> None:
    from dataclasses import replace

    from datasets import Dataset

    loss, stock, shared = trainers
    rows = Dataset.from_list(tree_rows(shapes))
    stock.train_dataset = shared.train_dataset = rows
    shared.data_collator = replace(shared.data_collator, questions_per_pass=questions_per_pass, pack_tokens=pack)
    with double_precision():
        trl, trl_gradients = trl_loss_and_gradients(stock, loss)
        shared_loss, gradients, _ = loss_and_gradients(shared)
    assert shared_loss == pytest.approx(trl, rel=1e-9)
    assert _same(gradients, trl_gradients)
