"""Train the policy model: a tiny Llama that reads the microworld. Seeded and resumable.

    python -m infra.microworld.train --out infra/microworld/policy --prompts tasks/prompts/en --steps 1600

The order of lessons is what works: random strings until induction appears, then restated facts, then
questions mixed with both, in contexts that grow. Every step's batch depends on (seed, step) alone; the
checkpoint holds weights, their running average and the optimizer, so a run that is killed goes on where it
was. The running average is what gets exported. Takes about an hour on 2 cores, minutes on a GPU. Alignment
is not done here: that is the factory's own work.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from infra.microworld.checkpoint import add_to_average, log, rate_share, resume, save
from infra.microworld.lessons import (
    IGNORED,
    Batch,
    Prompt,
    echo_batch,
    question_batch,
    read_prompts,
    restate_batch,
)
from infra.microworld.policy_card import export
from infra.microworld.tokenizer import SPACE, build_tokenizer

_SAVE_EVERY, _EXPORT_EVERY = 100, 800  # steps


@dataclass(frozen=True)
class Settings:
    """All that decides the weights. `tokens` is the size of a step's batch; documents are about 40 tokens.

    `init` is the folder of an exported model to go on from, or empty for a fresh one. With `imperfect` the answers to
    plan_and_solve are those of `teachers.py`.
    """

    steps: int = 1600
    seed: int = 0
    width: int = 128
    layers: int = 3
    rate: float = 3e-3
    echo_steps: int = 350
    restate_steps: int = 350
    tokens: int = 8000
    docs: int = 24
    lists: float = 0.25
    init: str = ""
    imperfect: bool = False


def main() -> None:
    """Read the command line, train, evaluate and export."""
    parser = argparse.ArgumentParser(description="Train the microworld's policy model.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the exported model")
    parser.add_argument("--prompts", type=Path, required=True, help="folder with sample-*.txt")
    parser.add_argument("--work", type=Path, default=Path("build/microworld"), help="folder for checkpoint and log")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    for name, value in asdict(Settings()).items():
        kind: Any = {"action": "store_true"} if isinstance(value, bool) else {"type": type(value)}
        parser.add_argument(f"--{name.replace('_', '-')}", default=value, **kind)
    arguments = vars(parser.parse_args())
    settings = Settings(**{name: arguments[name] for name in asdict(Settings())})
    torch.set_num_threads(arguments["threads"])
    train(settings, arguments["prompts"], arguments["work"], arguments["out"])


def train(settings: Settings, prompts: Path, work: Path, out: Path) -> None:
    """Run all steps from the last checkpoint in `work`, exporting to `out` on the way and at the end."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(settings.seed)
    if settings.init:
        tokenizer = AutoTokenizer.from_pretrained(settings.init)
        model = LlamaForCausalLM.from_pretrained(settings.init, dtype=torch.float32).to(device)
    else:
        tokenizer = build_tokenizer(prompts)
        model = new_model(model_config(settings, tokenizer), tokenizer).to(device)
    average = LlamaForCausalLM(model.config).to(device)
    average.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.rate, betas=(0.9, 0.98), weight_decay=0.1)
    work.mkdir(parents=True, exist_ok=True)
    first, spent = resume(work / "checkpoint.pt", model, average, optimizer)
    read = read_prompts(prompts)
    started = time.monotonic() - spent
    for step in range(first, settings.steps):
        batch = lesson(settings, tokenizer, read, step)
        loss = _learn(model, optimizer, batch, settings.rate * rate_share(step, step / settings.steps), device)
        add_to_average(average, model, step)
        done, seconds = step + 1, time.monotonic() - started
        if step % 20 == 0:
            log(work, step=step, loss=round(loss, 4), seconds=round(seconds), shape=list(batch.tokens.shape))
        if done % _SAVE_EVERY == 0 or done == settings.steps:
            save(work / "checkpoint.pt", model, average, optimizer, done, seconds)
        if done % _EXPORT_EVERY == 0 and done < settings.steps:
            log(work, **export(average, tokenizer, read, asdict(settings), out, done, seconds, 16, (512,)))
    seconds = time.monotonic() - started
    log(work, **export(average, tokenizer, read, asdict(settings), out, settings.steps, seconds, 96))


def model_config(settings: Settings, tokenizer: Any) -> LlamaConfig:
    """The model's shape: heads of 32, untied embeddings, positions up to 65536."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=settings.width * 8 // 3 // 32 * 32,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.width // 32,
        num_key_value_heads=settings.width // 32,
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


def lesson(settings: Settings, tokenizer: Any, prompts: list[Prompt], step: int) -> Batch:
    """The batch of one step; contexts grow over the first half of the questions."""
    rng = random.Random(f"train:{settings.seed}:{step}")
    seed = f"lesson:{settings.seed}:{step}"
    share = rng.random()
    restating = settings.echo_steps + settings.restate_steps
    progress = 1.0 if settings.init else max(0.0, step - restating) / max(1, settings.steps - restating)
    docs = rng.randint(4, 6 + round((settings.docs - 6) * min(1.0, 2 * progress)))
    if step < settings.echo_steps or share < (0.15 if step < restating else 0.05):
        return echo_batch(tokenizer, seed, settings.tokens // 2, easy=step < settings.echo_steps * 2 // 3)
    if step < restating or share < 0.35 - 0.25 * min(1.0, 2 * progress):
        plain = rng.random() < 1 - (step - settings.echo_steps) / max(1, settings.restate_steps)
        return restate_batch(tokenizer, seed, max(1, settings.tokens // (docs * 50)), docs, plain)
    branches = 6
    return question_batch(
        tokenizer,
        prompts,
        seed,
        max(1, settings.tokens // (docs * 40 + branches * 65)),
        docs,
        branches,
        settings.lists,
        settings.imperfect,
    )


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


if __name__ == "__main__":
    main()
