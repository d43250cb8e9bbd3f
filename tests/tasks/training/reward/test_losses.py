"""Losses and gradients of the shared forward are those of TRL's and transformers' rows of one answer each."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest

from infra.recipe import RewardTraining
from tasks.training.reward.passes import JudgedCollator, reward_pairs

TOLERANCE = 2e-5  # of float32
ROWS: list[dict[str, Any]] = [
    {
        "prompt_ids": [1, 9, 12, 33, 7, 20, 5],
        "answers": [[8, 30, 2], [11, 2], [40, 41, 42, 2]],
        "scores": [(9.0, None), (4.0, 6.0), (1.0, None)],
        "rewards": [9.0, 5.0, 1.0],
    },
    {
        "prompt_ids": [1, 50],
        "answers": [[3, 2], [44, 45, 2]],
        "scores": [(None, 2.0), (7.0, 8.0)],
        "rewards": [2.0, 8.0],
    },
]


def classifier(labels: int, **changes: Any) -> Any:
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification

    torch.manual_seed(1)
    settings: dict[str, Any] = {
        "vocab_size": 61,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.3,
        "pad_token_id": 0,
        "num_labels": labels,
    }
    architecture = changes.pop("architecture", "llama")
    return AutoModelForSequenceClassification.from_config(CONFIG_MAPPING[architecture](**settings | changes))


def gradients(model: Any) -> dict[str, Any]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def close(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        float((one[name] - other[name]).abs().max()) <= TOLERANCE * max(1.0, float(other[name].abs().max()))
        for name in other
    )


def pass_of(settings: RewardTraining, rows: list[dict[str, Any]], heads: int) -> dict[str, Any]:
    batch: dict[str, Any]
    (batch,) = JudgedCollator(0, len(rows), settings.objective == "pairwise", heads)(rows)["passes"]
    return batch


def loss_of(model: Any, settings: RewardTraining, heads: int, shared: bool, rows: list[dict[str, Any]]) -> Any:
    from tasks.training.reward.settings import Head
    from tasks.training.reward.trainer import answer_logits, make_loss

    batch = pass_of(settings, rows, heads)
    trainer: Any = SimpleNamespace(add_to_means=lambda batch, numbers: None)
    loss = make_loss(settings, [Head("", 1, 0.0, 2.0)] * heads)
    return loss(trainer, answer_logits(model, batch, shared, 0), batch)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_the_prompt_read_once_gives_the_stock_logits_and_gradients(architecture: str) -> None:
    from tasks.training.shared_prefix.classifier import classifier_obstacle, passes_trial, share_classifier

    model = classifier(2, architecture=architecture)
    assert classifier_obstacle(model, 64) is None
    settings = RewardTraining()
    loss_of(model, settings, 2, False, ROWS).backward()
    expected = gradients(model)
    model.zero_grad()
    share_classifier(model)
    assert passes_trial(model)
    loss_of(model, settings, 2, True, ROWS).backward()
    assert close(gradients(model), expected)


def test_pairwise_is_the_loss_of_trls_reward_trainer() -> None:
    import torch
    from trl import RewardTrainer

    from tasks.training.shared_prefix.classifier import share_classifier

    settings = RewardTraining(objective="pairwise", margin=0.25, center_rewards_coefficient=0.01)
    row = ROWS[0]
    model = classifier(1)
    pairs = reward_pairs(row["rewards"])
    assert pairs == [(0, 1), (0, 2), (1, 2)]
    conversations = [row["prompt_ids"] + row["answers"][place] for side in (0, 1) for place in [p[side] for p in pairs]]
    longest = max(map(len, conversations))
    inputs = {
        "input_ids": torch.tensor([ids + [0] * (longest - len(ids)) for ids in conversations]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in conversations]),
    }
    margins = torch.tensor([0.25 * (row["rewards"][better] - row["rewards"][worse]) for better, worse in pairs])
    logits = model(**inputs).logits

    class Stock:
        """TRL gives all of its inputs to the model, which takes no margin."""

        training = True

        def __call__(self, margin: Any, use_cache: bool, **batch: Any) -> Any:
            return SimpleNamespace(logits=logits)

    trl: Any = SimpleNamespace(
        model=Stock(),
        args=SimpleNamespace(center_rewards_coefficient=0.01),
        accelerator=SimpleNamespace(gather=lambda value: value, gather_for_metrics=lambda value: value),
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    expected = RewardTrainer.compute_loss(trl, trl.model, inputs | {"margin": margins})
    expected.backward()
    of_trl = gradients(model)
    model.zero_grad()
    share_classifier(model)
    loss = loss_of(model, settings, 1, True, [row])
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=TOLERANCE)
    assert close(gradients(model), of_trl)


def test_nulls_take_no_part_and_every_question_weighs_the_same() -> None:
    batch = pass_of(RewardTraining(), ROWS, 2)
    assert float(batch["weights"].sum()) == pytest.approx(1.0)
    assert float(batch["weights"][:3].sum()) == pytest.approx(0.5)
    assert batch["weights"][0].tolist() == [0.125, 0.0]  # four scores are there
    pairwise = pass_of(RewardTraining(objective="pairwise"), ROWS, 1)
    assert pairwise["pairs"].tolist() == [[0, 1], [0, 2], [1, 2], [4, 3]]
    assert pairwise["weights"].tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    assert pairwise["differences"].tolist() == [4.0, 8.0, 4.0, 6.0]


def test_processes_share_the_passes_of_a_step_and_repeat_one_without_weight() -> None:
    rows = [*ROWS, ROWS[0]]
    weights = []
    for process in range(2):
        passes = JudgedCollator(0, 1, False, 2, process, 2)(rows)["passes"]
        assert len(passes) == 2
        weights.append([float(batch["weights"].sum()) for batch in passes])
    assert weights == [pytest.approx([2 / 3, 2 / 3]), pytest.approx([2 / 3, 0.0])]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": "mistral", "sliding_window": 16}, "sliding window of 16 tokens"),
        ({"architecture": "gpt2"}, "not made of a causal language model"),
    ],
)
def test_models_that_cannot_share_say_why(changes: dict[str, Any], reason: str) -> None:
    from tasks.training.shared_prefix.classifier import classifier_obstacle

    assert reason in str(classifier_obstacle(classifier(2, **changes), 64))


def test_padding_before_the_end_of_an_answer_is_pooled_as_transformers_does() -> None:
    """An answer that ends with the model's padding token: its last other token counts."""
    from tasks.training.reward.trainer import answer_logits
    from tasks.training.shared_prefix.classifier import share_classifier

    model = classifier(2)
    rows = [ROWS[0] | {"answers": [[8, 30, 0], [11, 2], [40, 41, 0, 0]]}]
    batch = pass_of(RewardTraining(), rows, 2)
    expected = answer_logits(model, batch, False, 0)
    share_classifier(model)
    assert float((answer_logits(model, batch, True, 0) - expected).detach().abs().max()) < TOLERANCE
