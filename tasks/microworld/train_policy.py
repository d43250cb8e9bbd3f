"""Train the policy: a tiny Llama that reads the microworld, in three stages. Seeded and resumable.

    lookup      random strings until the model repeats them, then restated facts, then questions mixed with both, in
                contexts that grow
    hops        longer contexts, chains of up to three hops and more lists; all answers are right
    imperfect   the answers of the teachers in `answers.py`, with their faults: what the factory has to improve on

Every stage begins with the model of the stage before. The batch of a step depends on (seed, stage, step) alone, so a
run that is killed continues from its last checkpoint. The running average of the weights is what the next stage begins
with, and what is exported. The training takes about an hour and a half on one core of a server's processor. The model
is not aligned here: that is the work of the factory.
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
from tasks.microworld.policy_accuracy import export_policy
from tasks.microworld.policy_lessons import (
    IGNORED,
    Batch,
    LessonPrompt,
    echo_batch,
    question_batch,
    read_prompts,
    restate_batch,
)
from tasks.microworld.tokenizer import SPACE, build_tokenizer
from tasks.microworld.training import learning_rate_share, load_checkpoint, save_checkpoint, update_average, write_log

MODEL = "model"  # folder of the model of a stage, in the folder of the stage
_SAVE_EVERY, _LOG_EVERY = 100, 20  # steps
_WIDTH, _LAYERS, _HEAD_WIDTH = 128, 3, 32
_QUESTIONS_PER_CONTEXT = 6
_TOKENS_PER_DOCUMENT, _TOKENS_PER_RESTATED_DOCUMENT, _TOKENS_PER_QUESTION = 40, 50, 65  # about


@dataclass(frozen=True)
class Stage:
    """All that decides what a stage teaches.

    `lists`: share of list questions. With `imperfect`, answers to plan_and_solve are the teachers' answers. `tokens`:
    size of the batch of a step.
    """

    name: str
    steps: int
    learning_rate: float
    max_documents: int
    lists: float = 0.25
    echo_steps: int = 0
    restate_steps: int = 0
    imperfect: bool = False
    tokens: int = 8000
    seed: int = 0


STAGES = (
    Stage("lookup", steps=1600, learning_rate=3e-3, max_documents=24, echo_steps=350, restate_steps=350),
    Stage("hops", steps=680, learning_rate=1.5e-3, max_documents=30, lists=0.4),
    Stage("imperfect", steps=350, learning_rate=7e-4, max_documents=28, imperfect=True),
)


def train_policy(prompts: Path, work: Path, out: Path, seed: int, stages: Sequence[Stage] = STAGES) -> dict[str, Any]:
    """Run all stages from the last checkpoint in `work`, measure the model and write it with its card to `out`.

    `prompts`: folder of the prompt files of a language. The model of every stage stays under `work` too: the judge
    learns best from one whose answers were all right (`hops`). Returns SubEM in percent by prompt and length of the
    context, see `export_policy`.
    """
    tokenizer, sampling_prompts = build_tokenizer(prompts), read_prompts(prompts)
    torch.manual_seed(seed)
    model = new_model(model_config(tokenizer), tokenizer)
    seconds = 0.0
    stage_texts = []
    for stage in stages:
        model, stage_seconds = train_stage(
            replace(stage, seed=seed), model, tokenizer, sampling_prompts, work / stage.name
        )
        seconds += stage_seconds
        model.save_pretrained(work / stage.name / MODEL)
        tokenizer.save_pretrained(work / stage.name / MODEL)
        stage_texts.append(f"{stage.steps:,} steps of {stage.name!r} on up to {stage.max_documents} documents")
    return export_policy(model, tokenizer, sampling_prompts, ", then ".join(stage_texts), seed, out, seconds)


def train_stage(stage: Stage, start: Any, tokenizer: Any, prompts: list[LessonPrompt], work: Path) -> tuple[Any, float]:
    """One stage, from the weights of `start` or from its checkpoint. Returns the averaged model and the seconds."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, average = LlamaForCausalLM(start.config).to(device), LlamaForCausalLM(start.config).to(device)
    model.load_state_dict(start.state_dict())
    average.load_state_dict(start.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=stage.learning_rate, betas=(0.9, 0.98), weight_decay=0.1)
    work.mkdir(parents=True, exist_ok=True)
    first_step, seconds_before = load_checkpoint(work, model, average, optimizer)
    progress.expect(stage.name, stage.steps)
    progress.advance(stage.name, first_step)
    started = time.monotonic() - seconds_before
    for step in range(first_step, stage.steps):
        batch = lesson_batch(stage, tokenizer, prompts, step)
        learning_rate = stage.learning_rate * learning_rate_share(step, step / stage.steps)
        loss = _train_step(model, optimizer, batch, learning_rate, device)
        update_average(average, model, step)
        seconds = time.monotonic() - started
        if step % _LOG_EVERY == 0:
            write_log(work, step=step, loss=round(loss, 4), seconds=round(seconds))
            progress.note(stage.name, f"loss {loss:.2f}")
        steps_done = step + 1
        if steps_done % _SAVE_EVERY == 0 or steps_done == stage.steps:
            save_checkpoint(work, model, average, optimizer, steps_done, seconds)
        progress.advance(stage.name)
    return average, time.monotonic() - started


def model_config(tokenizer: Any) -> LlamaConfig:
    """The shape of the model: heads of 32, separate input and output embeddings, positions up to 65,536."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=_WIDTH,
        intermediate_size=_WIDTH * 8 // 3 // 32 * 32,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_WIDTH // _HEAD_WIDTH,
        num_key_value_heads=_WIDTH // _HEAD_WIDTH,
        head_dim=_HEAD_WIDTH,
        max_position_embeddings=65536,  # what servers accept; the model learns only the lengths of the lessons
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def new_model(config: LlamaConfig, tokenizer: Any) -> Any:
    """A fresh model that learns to copy quickly.

    Its output embeddings begin as a copy of its input embeddings, and a word at the start of a reply begins close to
    the same word after a space.
    """
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        embeddings = model.model.embed_tokens.weight.normal_(0.0, 0.1)
        for token, index in sorted(tokenizer.get_vocab().items()):
            spaced_index = tokenizer.convert_tokens_to_ids(f"{SPACE}{token}")
            if spaced_index is not None:
                embeddings[index] = 0.8 * embeddings[spaced_index] + 0.6 * embeddings[index]
        model.lm_head.weight.copy_(embeddings)
    return model


def lesson_batch(stage: Stage, tokenizer: Any, prompts: list[LessonPrompt], step: int) -> Batch:
    """The batch of one step. In a stage that begins without questions, contexts grow over the first half of the
    question steps."""
    rng = random.Random(f"train:{stage.name}:{stage.seed}:{step}")
    seed = f"lesson:{stage.name}:{stage.seed}:{step}"
    draw = rng.random()
    steps_before_questions = stage.echo_steps + stage.restate_steps
    growth = 1.0  # of the contexts, 0 to 1
    if steps_before_questions:
        question_steps = max(1, stage.steps - steps_before_questions)
        growth = min(1.0, 2 * max(0.0, step - steps_before_questions) / question_steps)
    document_count = rng.randint(4, 6 + round((stage.max_documents - 6) * growth))
    echo_share = 0.15 if step < steps_before_questions else 0.05
    if step < stage.echo_steps or draw < echo_share:
        return echo_batch(tokenizer, seed, stage.tokens // 2, easy=step < stage.echo_steps * 2 // 3)
    if step < steps_before_questions or draw < 0.35 - 0.25 * growth:
        plain_share = 1 - (step - stage.echo_steps) / max(1, stage.restate_steps)
        plain = rng.random() < plain_share
        rows = max(1, stage.tokens // (document_count * _TOKENS_PER_RESTATED_DOCUMENT))
        return restate_batch(tokenizer, seed, rows, document_count, plain)
    row_tokens = document_count * _TOKENS_PER_DOCUMENT + _QUESTIONS_PER_CONTEXT * _TOKENS_PER_QUESTION
    rows = max(1, stage.tokens // row_tokens)
    return question_batch(
        tokenizer, prompts, seed, rows, document_count, _QUESTIONS_PER_CONTEXT, stage.lists, stage.imperfect
    )


def _train_step(model: Any, optimizer: torch.optim.Optimizer, batch: Batch, learning_rate: float, device: str) -> float:
    """One step of AdamW; returns the loss. Only tokens with a label are projected to the vocabulary, to save time."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
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
