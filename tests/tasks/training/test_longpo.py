"""LongPO is its formula, worked out from plain logits: the model reads the long prompt, its reference the short one."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from infra.errors import TrainingError
from infra.recipe import Training
from infra.store import open_store
from tasks.training.base import adapter_config, load_base
from tasks.training.gate import PairsFile, gate, pair_schema
from tasks.training.losses import LossSetup, find_loss
from tasks.training.published import read_train_split
from tasks.training.run import trainer_arguments
from tasks.training.settings import RunConfig
from tasks.training.shared_prefix.cost import ModelCost, SharingRule
from tests.support.tiny_model import pair_row, pair_rows, publish_rows, save_tiny, tiny_tokenizer

BETA, WEIGHT = 0.3, 0.7
SHORT = "which river?"
LONG = "the Elbe runs by. A line that says nothing. which river?"


def short_row(index: int, chosen: str, rejected: str) -> dict[str, Any]:
    row = pair_row(index, f"{index} {LONG}", chosen, rejected)
    return row | {"short_prompt": [{"role": "user", "content": f"{index} {SHORT}"}]}


ROWS = [
    short_row(0, "the Elbe, and the Saale joins it near Barby", "no"),
    short_row(0, "the Elbe, and the Saale joins it near Barby", "I cannot say"),
    short_row(1, "Elbe", "it was the second of the three rivers, I think"),
    pair_row(2, "a short row that was mixed in", "yes", "no, never"),
]


def trainer_of(folder: Path, *, loss: str = "longpo", shared: bool = False, kept: bool = False, **changes: Any) -> Any:
    """A trainer over ROWS whose weights are away from the reference's."""
    import torch
    from datasets import Dataset

    tokenizer = tiny_tokenizer()
    short = find_loss(loss).short_reference
    with PairsFile(folder / "pairs.arrow", pair_schema(short)) as pairs:
        lengths = gate(ROWS, tokenizer, 200, add=pairs.add, short_prompts=short)
    settings = Training.model_validate(
        {
            "loss": loss,
            "beta": BETA,
            "sft_weight": WEIGHT,
            "dtype": "float32",
            "lora_rank": 4,
            "lora_dropout": 0.0,
            "batch_size": 3,
            "gradient_checkpointing": False,
            **changes,
        }
    )
    config = RunConfig(settings, save_tiny(folder / "base"), "base", False, 5, lengths, str(folder), None)
    reference = folder / "reference.jsonl"
    reference.write_text("")
    setup = LossSetup(
        model=load_base(config),
        adapter=adapter_config(settings),
        tokenizer=tokenizer,
        pairs=Dataset.from_file(str(config.pairs)),
        max_length=lengths.total_max,
        settings=settings,
        arguments=trainer_arguments(config),
        callbacks=(),
        reference=reference if kept else None,
        sharing=SharingRule(ModelCost(1, 1, 1), always=True) if shared else None,
    )
    trainer = find_loss(loss).make_trainer(setup)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            if ".lora_B." in name or settings.method == "full":
                weight.add_(torch.randn_like(weight) * 0.05)
    trainer.model.eval()
    return trainer


def log_p(model: Any, prompt: str, answer: str) -> tuple[float, int]:
    """The sum of log p over an answer's tokens and their number, by a plain softmax over one sequence's logits."""
    import torch

    tokenizer = tiny_tokenizer()
    messages = [{"role": "user", "content": prompt}]
    start = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": answer}], tokenize=False)
    first, ids = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (start, whole))
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double()
    by_place = torch.log_softmax(logits, dim=-1)
    places = range(len(first), len(ids))
    return sum(float(by_place[place - 1, ids[place]]) for place in places), len(places)


def by_hand(trainer: Any, rows: Sequence[dict[str, Any]] = ROWS, prompt_of_reference: str = "short_prompt") -> float:
    """The mean over questions of the mean over a question's pairs."""
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(trainer.model.config.name_or_path).eval()
    losses: dict[str, list[float]] = {}
    for row in rows:
        long, short = (row.get(name, row["prompt"])[0]["content"] for name in ("prompt", prompt_of_reference))
        gains, nll = [], 0.0
        for side in ("chosen", "rejected"):
            answer = row[side][0]["content"]
            own, tokens = log_p(trainer.model, long, answer)
            gains.append(own - log_p(base, short, answer)[0])
            if side == "chosen":
                nll = -own / tokens
        margin = BETA * (gains[0] - gains[1])
        losses.setdefault(row["example_id"], []).append(math.log1p(math.exp(-margin)) + WEIGHT * nll)
    means = [sum(of_question) / len(of_question) for of_question in losses.values()]
    return sum(means) / len(means)


def loss_of_step(trainer: Any) -> float:
    passes = trainer.data_collator(list(trainer.train_dataset))["passes"]
    return sum(float(trainer.compute_loss(trainer.model, batch).detach()) for batch in passes)


@pytest.mark.medium
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shared": True},
        {"kept": True},
        {"kept": True, "shared": True},
        {"device_batch_size": 3, "shared": True},
        {"method": "full"},
    ],
    ids=str,
)
def test_the_loss_is_the_formula_live_or_kept_shared_or_not(tmp_path: Path, options: dict[str, Any]) -> None:
    trainer = trainer_of(tmp_path, **options)
    expected = by_hand(trainer)
    assert abs(expected - by_hand(trainer, prompt_of_reference="prompt")) > 1e-3  # the prompt of the reference matters
    assert loss_of_step(trainer) == pytest.approx(expected, rel=1e-5)


def test_dpo_on_the_same_rows_reads_the_long_prompt_alone(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, loss="dpo")
    assert "short_prompt_ids" not in trainer.train_dataset.column_names
    assert loss_of_step(trainer) == pytest.approx(by_hand(trainer, prompt_of_reference="prompt"), rel=1e-5)


def test_a_dataset_without_short_prompts_is_refused_before_training(tmp_path: Path) -> None:
    manifest = publish_rows(tmp_path, pair_rows(4))
    split = read_train_split(open_store(str(tmp_path)), manifest, with_short_prompt=True)
    with pytest.raises(TrainingError, match=r"sampling\.context: evidence"):
        next(split.pairs())
