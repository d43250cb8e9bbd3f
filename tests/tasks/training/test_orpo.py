"""ORPO's loss against a formula written out by hand. That it is TRL's with "all" is in shared_prefix/test_exact.py."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.slow  # torch and the trainers take seconds to load

ROWS = [  # prompt 5 6; three answers, two pairs
    {"prompt_ids": [5, 6], "answers": [[7, 8], [9, 3, 4], [2]], "pairs": [[0, 1], [2, 1]]},
    {"prompt_ids": [5, 6, 7, 8, 9], "answers": [[3], [4, 6]], "pairs": [[0, 1]]},
]
WORDS = 10


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")


def _log_p(model: Any, ids: list[int], place: int) -> float:
    """log softmax of the token at `place`, from the logits one place before it, by hand."""
    scores = [float(value) for value in model.logits(ids, place - 1)]
    return scores[ids[place]] - math.log(sum(math.exp(score) for score in scores))


class _Fixed:
    """Logits that depend on a token and its place alone, as TRL's fused head reports on them."""

    def logits(self, ids: list[int], place: int) -> Any:
        import torch

        return torch.sin(ids[place] * 1.3 + place * 0.7 + torch.arange(WORDS, dtype=torch.float64) * 2.1)

    def __call__(self, input_ids: Any, labels: Any, **_: Any) -> Any:
        import torch

        log_probs = torch.zeros(labels[:, 1:].shape, dtype=torch.float64)
        for row, place in (labels[:, 1:] != -100).nonzero().tolist():
            log_probs[row, place] = _log_p(self, input_ids[row].tolist(), place + 1)
        return SimpleNamespace(log_probs=log_probs, mean_logits=log_probs)


def _loss(nll_over: str, rows: list[dict[str, Any]], questions_per_pass: int = 1) -> tuple[float, dict[str, float]]:
    import torch

    from tasks.training.losses.orpo import ORPOLoss
    from tasks.training.passes import StepCollator
    from tasks.training.trl_seams import StepORPOTrainer

    trainer = StepORPOTrainer.__new__(StepORPOTrainer)
    trainer.pass_loss = ORPOLoss(nll_over)
    trainer.aux_loss_enabled, trainer.aux_loss_coef, trainer.beta = False, 0.0, 0.3
    trainer.accelerator = SimpleNamespace(device=torch.device("cpu"))
    trainer.set_sharing(None)
    passes = StepCollator(0, questions_per_pass)(rows)["passes"]
    loss = sum(float(trainer.get_batch_loss_metrics(_Fixed(), batch)[0]) for batch in passes)
    return loss, {name: float(value) for name, value in trainer.step_means.items()}


def _by_hand(kind: str, prompt: list[int], chosen: list[int], rejected: list[int]) -> tuple[float, float]:
    """The pair's loss, and its likelihood term."""
    log_odds, nll = [], 0.0
    for answer in (chosen, rejected):
        ids = prompt + answer
        log_p = [_log_p(_Fixed(), ids, place) for place in range(1, len(ids))]
        mean = sum(log_p[-len(answer) :]) / len(answer)
        log_odds.append(mean - math.log(1 - math.exp(mean)))
        if answer is chosen:
            nll = -mean if kind == "answer" else -sum(log_p) / len(log_p)
    return nll + 0.3 * math.log(1 + math.exp(log_odds[1] - log_odds[0])), nll


@pytest.mark.parametrize("questions_per_pass", [1, 2])
@pytest.mark.parametrize("kind", ["answer", "all"])
def test_the_loss_is_the_papers_formula_averaged_by_question(kind: str, questions_per_pass: int) -> None:
    means = []
    for row in ROWS:
        losses = [
            _by_hand(kind, row["prompt_ids"], row["answers"][chosen], row["answers"][rejected])
            for chosen, rejected in row["pairs"]
        ]
        means.append([sum(values) / len(losses) for values in zip(*losses, strict=True)])
    loss, numbers = _loss(kind, ROWS, questions_per_pass)
    expected, nll = (sum(values) / 2 for values in zip(*means, strict=True))
    assert loss == pytest.approx(expected, abs=1e-6)  # TRL's odds are of single precision
    assert numbers["nll_loss"] == pytest.approx(nll, abs=1e-9)
    assert abs(means[0][0] - means[1][0]) > 0.05


def test_the_two_likelihoods_differ() -> None:
    assert abs(_loss("answer", ROWS)[0] - _loss("all", ROWS)[0]) > 0.05
