"""Write the policy folder: weights, tokenizer, settings and a model card with what was measured.

The folder loads with transformers and vLLM as it is. Nothing is uploaded.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from tasks.microworld.evaluate import SAMPLES, TEMPERATURE, evaluate
from tasks.microworld.lessons import Prompt

LENGTHS, QUESTIONS = (256, 512, 1024), 96  # tokens of a context; questions of each
MAIN, PLAIN = "plan_and_solve", "direct_answer"

_CARD = """---
license: apache-2.0
language: en
tags: [longmill, microworld, synthetic]
---

# The microworld's policy

A Llama-architecture model of {parameters:,} parameters that answers questions about a fictional world from
the passages in its context. It knows nothing else, and nothing about the real world. It is the embedded
default that lets Longmill run end to end on any machine; it has not been aligned.

- **Data**: worlds, passages and questions from `tasks/microworld`, a fresh world for every row of every
  training batch; no real person, place or text. Prompts: `tasks/prompts/en/sample-*.txt`.
- **Recipe**: {recipe}; AdamW, cosine, running average of the weights. Seed {seed}.
  `longmill microworld train policy --seed {seed}`
- **Machine and time**: {machine}, {minutes} minutes.
- **Licence**: Apache-2.0.

## Measured

SubEM in percent on held-out worlds, by length of the context in tokens. `sampled` is the mean over {samples}
samples at temperature {temperature}, `majority` their most frequent answer, `chance` a random candidate of
the right kind. A list question counts only when every item is named.

| prompt | context | kind | questions | greedy | sampled | majority | chance |
|---|---|---|---|---|---|---|---|
{rows}
"""


def export(
    model: Any,
    tokenizer: Any,
    prompts: list[Prompt],
    stages: Sequence[Any],
    seed: int,
    out: Path,
    seconds: float,
) -> dict[str, Any]:
    """Evaluate the model on QUESTIONS a row, write it with its card, return the SubEM by row.

    `stages`: see train_policy.py.
    """
    model.eval()
    table, summary = _measure(model, tokenizer, prompts, seed)
    out.mkdir(parents=True, exist_ok=True)
    model.generation_config = generation_config(tokenizer)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    card = _CARD.format(
        parameters=model.num_parameters(),
        recipe=", then ".join(
            f"{each.steps:,} steps of {each.name!r} on up to {each.docs} documents" for each in stages
        ),
        seed=seed,
        machine=machine(),
        minutes=round(seconds / 60),
        samples=SAMPLES,
        temperature=TEMPERATURE,
        rows="\n".join(table),
    )
    (out / "README.md").write_text(card, encoding="utf-8")
    return summary


def _measure(model: Any, tokenizer: Any, prompts: list[Prompt], seed: int) -> tuple[list[str], dict[str, Any]]:
    """The rows of the card's table, and the SubEM over all kinds by prompt and length."""
    table, summary = [], {}
    for name in (MAIN, PLAIN):
        prompt = next(prompt for prompt in prompts if prompt.strategy == name)
        for length in LENGTHS:
            scores = evaluate(model, tokenizer, prompt, seed, QUESTIONS, length)
            summary[f"{name}@{length}"] = scores["all"]
            table += [
                f"| {name} | {length} | {kind} | {row['questions']} | {row['greedy']} | {row['sampled']} "
                f"| {row['majority']} | {row['chance']} |"
                for kind, row in scores.items()
            ]
    return table, summary


def generation_config(tokenizer: Any) -> GenerationConfig:
    """How a model of the box generates: its special tokens, and nothing else."""
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )


def machine() -> str:
    """What the training runs on, in words."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"{torch.get_num_threads()} threads of a {platform.machine()} CPU"
