"""Write the judge's folder: weights in 16 bits, tokenizer, settings and a model card with what was measured.

The folder loads with transformers and vLLM as it is; both compute in 32 bits, as its config says. Nothing is uploaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tasks.microworld.judge_accuracy import judge_accuracy, table
from tasks.microworld.judge_lessons import Desk
from tasks.microworld.policy_card import generation_config, machine

_COUNT = 200  # calls of each kind that the card's table is measured on

_CARD = """---
license: apache-2.0
language: en
tags: [longmill, microworld, synthetic]
---

# The microworld's judge

A Llama-architecture model of {parameters:,} parameters that makes every judge call of LongReward's protocol on the
generated world, from the terse English prompts: ratings of helpfulness, logicality and completeness, the statements of
an answer, verdicts on one statement or several, notes on a part of a document; and the context-free rating of overall
quality that a baseline asks for. It knows nothing else, and nothing about the real world: it stands in for a judge
model where the factory is tried out and tested.

- **Data**: calls from `tasks/microworld/judge_lessons.py`, fresh worlds at every step; answers with the faults of
  `answers.py`; labels are the replies of the rules (`rules.py`). No real person, place or text.
  Prompts: `tasks/prompts/en/judge-terse-*.txt`.
- **Recipe**: begins as {start}, made wider, with new layers on top
  (`tasks/microworld/judge_start.py`); AdamW, cosine, running average of the weights; loss on the replies, and on what
  can be known while a call is read. {step:,} steps of about 6,500 tokens, seed {seed}.
  `longmill microworld train judge --start FOLDER --steps {steps} --seed {seed}`
- **Machine and time**: {machine}, {minutes} minutes.
- **Licence**: Apache-2.0.

## Measured

In percent, on {count} calls of each kind over worlds that training never draws, greedy, unconstrained, single tries.
`right`: ratings within 1 of the truth, all else exactly; an unparsable reply is a wrong one.
`python -m tasks.microworld.judge_accuracy --model infra/models/box/microworld-judge --prompts tasks/prompts/en
--count {count}`

{rows}

## Known limits

- Notes are the facts that a part alone leads to from what the question names, hop by hop, or all items of a list, each
  in plain words ("The home of Abrtan is Oakmoor."), not copied sentences (`rules.chained_notes`). What a part says on a
  later hop whose subject only another part names is left out; the rule-based judge copies it.
- The truth is the rules': the judge can be no better than they are, and says nothing of texts of the real world.
- It was trained on parts of 128 to 512 tokens and 5 chunks of 128: set `completeness.chunk_tokens` to 512 or less.
"""


def export(
    model: Any, desk: Desk, settings: Mapping[str, Any], start: str, out: Path, step: int, seconds: float
) -> dict[str, float]:
    """Measure the model, write it with its card, return the percent right by kind of call. `start`: what it began as,
    in words for the card."""
    model.eval()
    out.mkdir(parents=True, exist_ok=True)
    model.generation_config = generation_config(desk.tokenizer)
    measured = judge_accuracy(model, desk, settings["seed"], _COUNT)
    halves = {name: weight.to(torch.float16).contiguous() for name, weight in model.state_dict().items()}
    model.save_pretrained(out, state_dict=halves)
    desk.tokenizer.save_pretrained(out)
    card = _CARD.format(
        parameters=model.num_parameters(),
        step=step,
        start=start,
        seed=settings["seed"],
        steps=settings["steps"],
        machine=machine(),
        minutes=round(seconds / 60),
        count=_COUNT,
        rows="\n".join(table(measured)),
    )
    (out / "README.md").write_text(card, encoding="utf-8")
    return {each.kind: each.right for each in measured}
