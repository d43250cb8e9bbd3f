"""Train the judge: the policy's weights, two layers more, taught to reply what the rules reply. Seeded, resumable.

A tiny model learns to look a value up only by a long order of lessons; the policy has been through it. The judge begins
with its layers and its embeddings of the words that both know. To compare what is stated with what is claimed comes
after looking up, so new layers stand on top, which at first change nothing, and over the first half of the steps there
is ever more to read. Every step's batch depends on (seed, step) alone and is never seen twice, so what the log says of
a batch is said of unseen worlds. The checkpoint holds weights, their running average and the optimizer; a run that is
killed goes on where it was. What is exported is the running average, in 16 bits. Leaves out a GPU's compiled step: the
batches are small.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from infra import progress
from infra.microworld.checkpoint import add_to_average, log, rate_share, resume, save
from infra.microworld.judge_batches import JudgeBatch, judge_batches
from infra.microworld.judge_card import export
from infra.microworld.judge_lessons import KINDS, open_desk
from infra.microworld.lessons import IGNORED
from infra.microworld.tokenizer import build_tokenizer

STAGE = "judge"
_SAVE_EVERY, _LOG_EVERY = 50, 25  # steps
_NEAREST = (2, 3, 4, 5)  # chunks for a statement: fewer than in earnest cost less, and teach the same


@dataclass(frozen=True)
class Settings:
    """All that decides the weights. `size` scales the calls of a step; `minutes` ends training early where it is
    above 0, with the rate decaying by whichever of steps and minutes ends first."""

    steps: int = 2400
    minutes: float = 0.0
    seed: int = 0
    layers: int = 5
    rate: float = 1.5e-3
    size: float = 1.0


def train_judge(settings: Settings, start: Path, prompts: Path, work: Path, out: Path) -> dict[str, float]:
    """Run all steps from the last checkpoint in `work`, then measure the model and write it with its card to `out`.

    `start`: folder of the policy that it begins as. Returns the percent of calls that it gets right, by kind.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(settings.seed)
    tokenizer = build_tokenizer(prompts)
    desk = open_desk(prompts, tokenizer)
    lessons = replace(desk, nearest=_NEAREST)
    model = judge_from_policy(start, tokenizer, settings.layers).to(device)
    average = LlamaForCausalLM(model.config).to(device)
    average.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.rate, betas=(0.9, 0.98), weight_decay=0.05)
    work.mkdir(parents=True, exist_ok=True)
    step, spent = resume(work / "checkpoint.pt", model, average, optimizer)
    started, right = time.monotonic() - spent, _Tally()
    progress.expect(STAGE, settings.steps)
    progress.advance(STAGE, step)
    while (done := share_done(settings, step, time.monotonic() - started)) < 1:
        eased = replace(lessons, easy=max(0.0, 1 - 2 * done))
        batches = judge_batches(eased, f"judge:{settings.seed}:{step}", settings.size)
        loss = _learn(model, optimizer, batches, settings.rate * rate_share(step, done), device, right)
        add_to_average(average, model, step)
        step, seconds = step + 1, time.monotonic() - started
        progress.advance(STAGE)
        if step % _LOG_EVERY == 0:
            log(work, step=step, loss=round(loss, 3), seconds=round(seconds), right=right.shares())
            progress.note(STAGE, f"loss {loss:.2f}")
            right = _Tally()
        if step % _SAVE_EVERY == 0:
            save(work / "checkpoint.pt", model, average, optimizer, step, seconds)
    seconds = time.monotonic() - started
    save(work / "checkpoint.pt", model, average, optimizer, step, seconds)
    return export(average, desk, asdict(settings), out, step, seconds)


def judge_from_policy(folder: Path, tokenizer: Any, layers: int) -> Any:
    """A Llama with the policy's layers, further ones that add nothing yet, and an embedding for each word of the
    judge's prompts; a word that the policy did not know starts as a random one of the same size."""
    known = AutoTokenizer.from_pretrained(folder).get_vocab()
    policy = LlamaForCausalLM.from_pretrained(folder)
    config = LlamaConfig.from_dict(
        {**policy.config.to_dict(), "num_hidden_layers": layers, "vocab_size": len(tokenizer)}
    )
    model = LlamaForCausalLM(config)
    old, new = policy.state_dict(), model.state_dict()
    embeddings = ("model.embed_tokens.weight", "lm_head.weight")
    with torch.no_grad():
        for name in old.keys() - set(embeddings):
            new[name].copy_(old[name])
        for name in embeddings:
            new[name].normal_(0.0, float(old[name].std()))
        new[embeddings[1]].copy_(new[embeddings[0]])
        for token, index in tokenizer.get_vocab().items():
            if token in known:
                for name in embeddings:
                    new[name][index] = old[name][known[token]]
        for layer in model.model.layers[policy.config.num_hidden_layers :]:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    return model


def share_done(settings: Settings, step: int, seconds: float) -> float:
    """Share of the training that is done, by steps or by time, whichever is further."""
    timed = seconds / 60 / settings.minutes if settings.minutes else 0.0
    return max(step / settings.steps, timed)


class _Tally:
    """Replies that were right in every token, by kind, since the last log."""

    def __init__(self) -> None:
        self.counts = {kind: [0, 0] for kind in KINDS}

    def add(self, kind: str, right: int, of: int) -> None:
        """Count so many right replies of so many."""
        self.counts[kind][0] += right
        self.counts[kind][1] += of

    def shares(self) -> dict[str, float]:
        """Percent right by kind."""
        return {kind: round(100 * right / max(of, 1), 1) for kind, (right, of) in self.counts.items()}


def _learn(
    model: Any, optimizer: torch.optim.Optimizer, batches: Sequence[JudgeBatch], rate: float, device: str, right: _Tally
) -> float:
    """One step of AdamW over all batches of a step; the loss."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    losses = [_backward(model, batch, device, right) for batch in batches]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return sum(losses)


def _backward(model: Any, batch: JudgeBatch, device: str, right: _Tally) -> float:
    """Add a batch's gradients; the vocabulary is only projected to where there is a label."""
    labelled = batch.labels[:, 1:] != IGNORED
    labels, weights = batch.labels[:, 1:][labelled].to(device), batch.weights[:, 1:][labelled].to(device)
    with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
        hidden = model.model(
            input_ids=batch.tokens.to(device),
            position_ids=batch.positions.to(device),
            attention_mask=batch.visible.to(device),
            use_cache=False,
        ).last_hidden_state[:, :-1]
        logits = model.lm_head(hidden[labelled.to(device)])
    loss = (functional.cross_entropy(logits.float(), labels, reduction="none") * weights).sum() / len(KINDS)
    torch.autograd.backward(loss)
    _count(right, batch, labelled, (logits.argmax(-1) == labels).cpu())
    return float(loss.item())


def _count(right: _Tally, batch: JudgeBatch, labelled: torch.Tensor, hit: torch.Tensor) -> None:
    """A reply counts as right when all of its tokens are."""
    rows = torch.arange(len(batch.calls))[:, None] * (int(batch.calls.max()) + 1)
    replies, kinds = (rows + batch.calls)[:, 1:][labelled], batch.kinds[:, 1:][labelled]
    missed = set(replies[~hit & (kinds >= 0)].tolist())
    for number, kind in enumerate(KINDS):
        own = set(replies[kinds == number].tolist())
        right.add(kind, len(own - missed), len(own))
