"""Reading the prompt once changes nothing: losses, gradients and logged numbers are those of the stock trainers."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.shared_pairs import double_precision, loss_and_gradients, make_trainer

pytestmark = pytest.mark.slow  # torch and the trainers take seconds to load

DPO, LONGREWARD = {"loss": "dpo", "beta": 0.15}, {"loss": "dpo", "beta": 0.15, "sft_weight": 0.1}
ORPO, ORPO_ALL = {"loss": "orpo"}, {"loss": "orpo", "nll_over": "all"}
LOSSES = pytest.mark.parametrize("loss", [DPO, LONGREWARD, ORPO, ORPO_ALL], ids=["dpo", "dpo+sft", "orpo", "orpo-all"])


def _close(found: Any, expected: Any) -> bool:
    return float((found - expected).abs().max()) <= 1e-9 * max(1.0, float(expected.abs().max()))


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")


@LOSSES
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
def test_loss_and_gradients_are_those_of_the_stock_trainer(
    tmp_path: Path, loss: dict[str, Any], architecture: str, method: str, checkpointing: bool
) -> None:
    settings = {**loss, "method": method, "gradient_checkpointing": checkpointing}
    with double_precision():
        found = {}
        for shared in (False, True):
            trainer = make_trainer(tmp_path, shared=shared, architecture=architecture, **settings)
            found[shared] = loss_and_gradients(trainer)
    (stock, stock_gradients, stock_logged), (loss_value, gradients, logged) = found[False], found[True]
    assert stock_gradients and max(float(each.abs().max()) for each in stock_gradients.values()) > 1e-3
    assert loss_value == pytest.approx(stock, rel=1e-9)
    assert [name for name in stock_gradients if not _close(gradients[name], stock_gradients[name])] == []
    assert logged.pop("shared_prompt") == 1.0
    if loss["loss"] == "dpo":
        assert logged == pytest.approx(stock_logged, rel=1e-9)
