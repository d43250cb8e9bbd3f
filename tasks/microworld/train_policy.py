"""Train the policy model: a tiny Llama that reads the microworld, in three stages. Seeded and resumable.

    lookup      random strings until induction appears, then restated facts, then questions mixed with both, in contexts
                that grow
    hops        longer contexts, chains of up to three hops and more lists, all answered right
    imperfect   the answers of `teachers.py`, with the faults that machines make: what the factory has to improve on

Every stage begins with the model of the one before. Every step's batch depends on (seed, stage, step) alone; a stage's
checkpoint holds weights, their running average and the optimizer, so a run that is killed goes on where it was. The
running average is what the next stage begins with, and what is exported. Takes about an hour and a half on one core of
a server's processor. Alignment is not done here: that is the factory's own work.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from infra.running import progress
from tasks.microworld.checkpoint import add_to_average, log, rate_share, resume, save
from tasks.microworld.lessons import IGNORED, Batch, Prompt, echo_batch, question_batch, read_prompts, restate_batch
from tasks.microworld.policy_card import export
from tasks.microworld.tokenizer import SPACE, build_tokenizer

MODEL = "model"  # folder of a stage's model, in the stage's own
_SAVE_EVERY, _LOG_EVERY = 100, 20  # steps


@dataclass(frozen=True)
class Stage:
    """All that decides what a stage teaches. `tokens` is the size of a step's batch; documents are about 40 tokens.

    `lists`: share of the list questions. With `imperfect` the answers to plan_and_solve are those of `teachers.py`.
    """

    name: str
    steps: int
    rate: float
    docs: int
    lists: float = 0.25
    echo_steps: int = 0
    restate_steps: int = 0
    imperfect: bool = False
    tokens: int = 8000
    seed: int = 0


STAGES = (
    Stage("lookup", steps=1600, rate=3e-3, docs=24, echo_steps=350, restate_steps=350),
    Stage("hops", steps=680, rate=1.5e-3, docs=30, lists=0.4),
    Stage("imperfect", steps=350, rate=7e-4, docs=28, imperfect=True),
)
_WIDTH, _LAYERS = 128, 3


def train_policy(prompts: Path, work: Path, out: Path, seed: int, stages: Sequence[Stage] = STAGES) -> dict[str, Any]:
    """Run all stages from the last checkpoint in `work`, measure the model and write it with its card to `out`.

    Every stage's model is kept under `work` too: the judge learns best from one whose answers were all right (`hops`).
    Returns the percent of held-out questions that it answers right, by prompt and length (see policy_card.py).
    """
    tokenizer, read = build_tokenizer(prompts), read_prompts(prompts)
    torch.manual_seed(seed)
    model = new_model(model_config(tokenizer), tokenizer)
    seconds = 0.0
    for stage in stages:
        model, spent = train(replace(stage, seed=seed), model, tokenizer, read, work / stage.name)
        seconds += spent
        model.save_pretrained(work / stage.name / MODEL)
        tokenizer.save_pretrained(work / stage.name / MODEL)
    return export(model, tokenizer, read, stages, seed, out, seconds)


def train(stage: Stage, start: Any, tokenizer: Any, prompts: list[Prompt], work: Path) -> tuple[Any, float]:
    """One stage, from the weights of `start` or from its checkpoint; the averaged model, and the seconds it took."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, average = (LlamaForCausalLM(start.config).to(device) for _ in range(2))
    for each in (model, average):
        each.load_state_dict(start.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=stage.rate, betas=(0.9, 0.98), weight_decay=0.1)
    work.mkdir(parents=True, exist_ok=True)
    first, spent = resume(work, model, average, optimizer)
    progress.expect(stage.name, stage.steps)
    progress.advance(stage.name, first)
    started = time.monotonic() - spent
    for step in range(first, stage.steps):
        batch = lesson(stage, tokenizer, prompts, step)
        loss = _learn(model, optimizer, batch, stage.rate * rate_share(step, step / stage.steps), device)
        add_to_average(average, model, step)
        done, seconds = step + 1, time.monotonic() - started
        if step % _LOG_EVERY == 0:
            log(work, step=step, loss=round(loss, 4), seconds=round(seconds))
            progress.note(stage.name, f"loss {loss:.2f}")
        if done % _SAVE_EVERY == 0 or done == stage.steps:
            save(work, model, average, optimizer, done, seconds)
        progress.advance(stage.name)
    return average, time.monotonic() - started


def model_config(tokenizer: Any) -> LlamaConfig:
    """The model's shape: heads of 32, untied embeddings, positions up to 65536."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=_WIDTH,
        intermediate_size=_WIDTH * 8 // 3 // 32 * 32,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_WIDTH // 32,
        num_key_value_heads=_WIDTH // 32,
        head_dim=32,
        max_position_embeddings=65536,  # what servers admit; lengths beyond the lessons' are never learned
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def new_model(config: LlamaConfig, tokenizer: Any) -> Any:
    """A fresh model that finds copying easy: its output embeddings start as a copy of its input ones, and a
    word at the start of a reply starts close to the same word after a space."""
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        embeddings = model.model.embed_tokens.weight.normal_(0.0, 0.1)
        for token, index in sorted(tokenizer.get_vocab().items()):
            spaced = tokenizer.convert_tokens_to_ids(f"{SPACE}{token}")
            if spaced is not None:
                embeddings[index] = 0.8 * embeddings[spaced] + 0.6 * embeddings[index]
        model.lm_head.weight.copy_(embeddings)
    return model


def lesson(stage: Stage, tokenizer: Any, prompts: list[Prompt], step: int) -> Batch:
    """The batch of one step; contexts grow over the first half of the questions of a stage that begins without any."""
    rng = random.Random(f"train:{stage.name}:{stage.seed}:{step}")
    seed = f"lesson:{stage.name}:{stage.seed}:{step}"
    share = rng.random()
    restating = stage.echo_steps + stage.restate_steps
    grown = max(0.0, step - restating) / max(1, stage.steps - restating) if restating else 1.0
    docs = rng.randint(4, 6 + round((stage.docs - 6) * min(1.0, 2 * grown)))
    if step < stage.echo_steps or share < (0.15 if step < restating else 0.05):
        return echo_batch(tokenizer, seed, stage.tokens // 2, easy=step < stage.echo_steps * 2 // 3)
    if step < restating or share < 0.35 - 0.25 * min(1.0, 2 * grown):
        plain = rng.random() < 1 - (step - stage.echo_steps) / max(1, stage.restate_steps)
        return restate_batch(tokenizer, seed, max(1, stage.tokens // (docs * 50)), docs, plain)
    branches = 6
    rows = max(1, stage.tokens // (docs * 40 + branches * 65))
    return question_batch(tokenizer, prompts, seed, rows, docs, branches, stage.lists, stage.imperfect)


def _learn(model: Any, optimizer: torch.optim.Optimizer, batch: Batch, rate: float, device: str) -> float:
    """One step of AdamW; the vocabulary is only projected to where there is a label."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
        hidden = model.model(
            input_ids=batch.tokens.to(device),
            position_ids=batch.positions.to(device),
            attention_mask=None if batch.visible is None else batch.visible.to(device),
            use_cache=False,
        ).last_hidden_state[:, :-1]
        labels = batch.labels[:, 1:].to(device)
        logits = model.lm_head(hidden[labels != IGNORED])
    loss = functional.cross_entropy(logits.float(), labels[labels != IGNORED])
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.item())
