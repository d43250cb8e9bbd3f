"""Train the judge: the policy in a wider model with layers on top, taught to reply what the rules reply. Resumable.

A tiny model learns to look a value up only by a long order of lessons; the policy has been through it, and the judge
begins as it (`judge_start`). To compare what is stated with what is claimed comes after looking up: over the first
steps what the policy knows is left alone, and short passages with many statements teach the new layers to compare;
then come all kinds of calls, and over the first half of them there is ever more to read. Every step's batch depends on
(seed, step) alone and is never seen twice, so what the log says of a batch is said of unseen worlds. The checkpoint
holds weights, their running average and the optimizer; a run that is killed goes on where it was. What is exported is
the running average, in 16 bits. Leaves out a GPU's compiled step: the batches are small.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import LlamaConfig

from infra.models.tokens import resolve_model
from infra.running import progress
from tasks.microworld.branched import BRANCHED
from tasks.microworld.checkpoint import add_to_average, log, rate_share, resume, save
from tasks.microworld.judge_batches import FIRST, PLAN, JudgeBatch, judge_batches
from tasks.microworld.judge_card import export
from tasks.microworld.judge_lessons import KINDS, open_desk
from tasks.microworld.judge_start import is_inherited, judge_from_policy
from tasks.microworld.lessons import IGNORED
from tasks.microworld.tokenizer import build_tokenizer

STAGE = "judge"
_SAVE_EVERY, _LOG_EVERY = 50, 25  # steps
_NEAREST = (2, 3, 4, 5)  # chunks for a statement: fewer than in earnest cost less, and teach the same
_ALONE = 200  # steps in which the new layers learn to compare, from FIRST
_GUARDED = 320  # steps in which what the policy knows is left alone: until replies have their form
_LATER = 0.45  # of the rate from there on
_TOLD = "told"
_INHERITED = 0.5  # of the rate, for what the policy knows


@dataclass(frozen=True)
class Settings:
    """All that decides the weights."""

    steps: int = 5000
    seed: int = 0
    layers: int = 5
    rate: float = 1.5e-3


def train_judge(settings: Settings, start: Path, prompts: Path, work: Path, out: Path) -> dict[str, float]:
    """Run all steps from the last checkpoint in `work`, then measure the model and write it with its card to `out`.

    `start`: folder of the policy that it begins as. Returns the percent of calls that it gets right, by kind.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(settings.seed)
    tokenizer = build_tokenizer(prompts)
    desk = open_desk(prompts, tokenizer)
    lessons = replace(desk, nearest=_NEAREST, even=True)
    model = judge_from_policy(start, prompts, tokenizer, settings.layers).to(device)
    average = copy.deepcopy(model)  # with settings of its own: it is measured with the ordinary attention
    model.set_attn_implementation(BRANCHED)
    optimizer = _optimizer(model, LlamaConfig.from_pretrained(start).num_hidden_layers)
    work.mkdir(parents=True, exist_ok=True)
    step, spent = resume(work, model, average, optimizer)
    started, right = time.monotonic() - spent, _Tally()
    progress.expect(STAGE, settings.steps)
    progress.advance(STAGE, step)
    while step < settings.steps:
        first, done = step < _ALONE, step / settings.steps
        eased = replace(lessons, easy=1.0 if first else max(0.0, 0.9 - 1.8 * done))
        batches = judge_batches(eased, f"judge:{settings.seed}:{step}", FIRST if first else PLAN)
        rate = settings.rate * rate_share(step, done) * (1.0 if step < _GUARDED else _LATER)
        for group, share in zip(optimizer.param_groups, (0.0 if step < _GUARDED else _INHERITED, 1.0), strict=True):
            group["lr"] = rate * share
        loss = _learn(model, optimizer, batches, device, right)
        add_to_average(average, model, step)
        step, seconds = step + 1, time.monotonic() - started
        progress.advance(STAGE)
        if step % _LOG_EVERY == 0:
            log(work, step=step, loss=round(loss, 3), seconds=round(seconds), right=right.shares())
            progress.note(STAGE, f"loss {loss:.2f}")
            right = _Tally()
        if step % _SAVE_EVERY == 0 or step == settings.steps:
            save(work, model, average, optimizer, step, seconds)
    return export(average, desk, asdict(settings), _began(start), out, step, time.monotonic() - started)


def _began(start: Path) -> str:
    """What the judge began as, in words that hold on every machine."""
    in_the_box = start.resolve() == Path(resolve_model("microworld")).resolve()
    return "the policy in `infra/models/box/microworld`" if in_the_box else "another policy of the microworld"


def _optimizer(model: Any, policy_layers: int) -> torch.optim.Optimizer:
    """AdamW over what is inherited, and over what is new."""
    named = list(model.named_parameters())
    groups = [[each for name, each in named if is_inherited(name, policy_layers) is known] for known in (True, False)]
    return torch.optim.AdamW([{"params": group} for group in groups], betas=(0.9, 0.98), weight_decay=0.05)


class _Tally:
    """Replies that were right in every token, by kind, and words foreseen, since the last log."""

    def __init__(self) -> None:
        self.counts = {kind: [0, 0] for kind in (*KINDS, _TOLD)}

    def add(self, kind: str, right: int, of: int) -> None:
        """Count so many right replies of so many."""
        self.counts[kind][0] += right
        self.counts[kind][1] += of

    def shares(self) -> dict[str, float]:
        """Percent right by kind."""
        return {kind: round(100 * right / max(of, 1), 1) for kind, (right, of) in self.counts.items()}


def _learn(
    model: Any, optimizer: torch.optim.Optimizer, batches: Sequence[JudgeBatch], device: str, right: _Tally
) -> float:
    """One step of AdamW over all batches of a step; the loss."""
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
            use_cache=False,
            shared=batch.shared,
            calls=batch.calls,
        ).last_hidden_state[:, :-1]
        logits = model.lm_head(hidden[labelled.to(device)])
    loss = (functional.cross_entropy(logits.float(), labels, reduction="none") * weights).sum()
    torch.autograd.backward(loss)
    _count(right, batch, labelled, (logits.argmax(-1) == labels).cpu())
    return float(loss.item())


def _count(right: _Tally, batch: JudgeBatch, labelled: torch.Tensor, hit: torch.Tensor) -> None:
    """A reply counts as right when all of its tokens are."""
    replies = batch.replies[:, 1:][labelled]
    own = (batch.tokens.shape[1] - batch.shared) // batch.calls
    calls = ((torch.nonzero(labelled)[:, 1] + 1 - batch.shared) // own)[replies]
    missed = set(calls[~hit[replies]].tolist())
    right.add(batch.kind, batch.calls - len(missed), batch.calls)
    right.add(_TOLD, int(hit[~replies].sum()), int((~replies).sum()))
