"""Train the verifier: the judge's layers with a head of three labels, which gives a verdict on a statement at once.

    longmill microworld train verifier

It is the sequence classifier of faithfulness' `verifier` on the generated world. The judge writes its verdict as
"[[Fully supported]]"; the classifier reads a shorter prompt that ends in "[[" (TEMPLATE), and its head begins as the
three rows of the judge's output embeddings for the words that follow. Lessons are those of the judge for `support`,
labels the replies of the rules. A training takes minutes; it is not resumed. The running average of the weights is
exported, in 16 bits. With no steps at all it is the judge's weights in another form, made in a minute.
"""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from infra.running import progress
from tasks.microworld.judge_batches import BRANCHED, JudgeBatch, judge_batches
from tasks.microworld.judge_lessons import LessonSettings, lesson_settings, make_call_group
from tasks.microworld.rules import FULL, NONE, PARTIAL
from tasks.microworld.tokenizer import ASSISTANT, BOS, USER, encode
from tasks.microworld.training import learning_rate_share, machine, update_average, write_log

STAGE = "verifier"
LABELS = ("full", "partial", "none")  # of the classifier, in its order
_VERDICTS = (FULL, PARTIAL, NONE)  # the judge's replies that they stand for
_PROMPT = "Task: support\n\n<passages>\n{passages}\n</passages>\n\n<statement>\n{statement}\n</statement>\n\nReply:"
TEMPLATE = f"{BOS}{USER}{_PROMPT}{ASSISTANT}[["  # what the classifier reads
_PLAN = {"support": (6.0, 16)}  # of a step: groups, and statements on the passages of each
_CHUNK_COUNTS = (2, 3, 4, 5)
_LOG_EVERY = 25  # steps
_MEASURED_GROUPS, _STATEMENTS = 200, 1  # a statement of an answer each, with the factory's five chunks

_CARD = """---
license: apache-2.0
language: en
tags: [longmill, microworld, synthetic]
---

# The microworld's verifier

A Llama-architecture sequence classifier of {parameters:,} parameters for `faithfulness: {{verifier: ...}}`: whether
passages of the generated world state what a statement says. Its labels are full, partial and none. It stands in for an
entailment model where the factory is tried out and tested, and knows nothing about the real world.

- **Input**: `{template}`
- **Data**: the judge's lessons for `support` (`tasks/microworld/judge_lessons.py`), fresh worlds at every step; labels
  are the replies of the rules (`rules.py`).
- **Recipe**: begins as the judge in the box, its head as three rows of the judge's output embeddings
  (`tasks/microworld/train_verifier.py`); {steps:,} steps of 96 statements, seed {seed}.
  `longmill microworld train verifier --steps {steps} --seed {seed}`
- **Machine and time**: {machine}, {minutes} minutes.
- **Licence**: Apache-2.0.

## Measured

On {count} statements of answers over worlds that training never draws, each with five chunks of 128 tokens,
{right:.1f}% have the label of the rules; before training, with the judge's weights, {before:.1f}%.

| truth | statements | right % |
|---|---|---|
{rows}
"""


@dataclass(frozen=True)
class VerifierTrainingSettings:
    """All that decides the weights."""

    steps: int = 400
    seed: int = 0
    learning_rate: float = 5e-4


@dataclass(frozen=True)
class VerifierAccuracy:
    """Percent of statements with the right label, in all and by truth: (statements, percent right)."""

    right: float
    by_truth: dict[str, tuple[int, float]]


def train_verifier(
    settings: VerifierTrainingSettings, start: Path, prompts: Path, work: Path, out: Path
) -> dict[str, float]:
    """Train from the judge in `start`, measure, and write the model with its card to `out`.

    `prompts`: folder of the prompt files of a language. Returns the percent of right labels by truth, and "all".
    """
    torch.manual_seed(settings.seed)
    tokenizer = AutoTokenizer.from_pretrained(start)
    factory_lessons = verifier_lessons(prompts, tokenizer)
    lessons = replace(factory_lessons, chunk_counts=_CHUNK_COUNTS)
    model = verifier_from_judge(start, tokenizer)
    before = verifier_accuracy(model, factory_lessons, settings.seed)
    average = copy.deepcopy(model)
    model.set_attn_implementation(BRANCHED)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.05)
    verdict_tokens = _verdict_tokens(tokenizer)
    work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    right = statements = 0
    progress.expect(STAGE, settings.steps)
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * learning_rate_share(step, step / settings.steps)
        batches = judge_batches(lessons, f"verifier:{settings.seed}:{step}", _PLAN)
        loss, right_of_step, of_step = _train_step(model, optimizer, batches, verdict_tokens)
        update_average(average, model, step)
        right, statements = right + right_of_step, statements + of_step
        progress.advance(STAGE)
        if (step + 1) % _LOG_EVERY == 0:
            share = {"support": round(100 * right / statements, 1)}
            write_log(work, step=step + 1, loss=round(loss, 3), seconds=round(time.monotonic() - started), right=share)
            progress.note(STAGE, f"loss {loss:.2f}")
            right = statements = 0
    accuracy = verifier_accuracy(average, factory_lessons, settings.seed)
    export_verifier(average, tokenizer, out)
    card = _card(average, settings, (before, accuracy), round((time.monotonic() - started) / 60))
    (out / "README.md").write_text(card, encoding="utf-8")
    return {"all": accuracy.right, **{truth: percent for truth, (_, percent) in accuracy.by_truth.items()}}


def verifier_lessons(prompts: Path, tokenizer: Any) -> LessonSettings:
    """The judge's lessons, in the words of TEMPLATE."""
    lessons = lesson_settings(prompts, tokenizer)
    return replace(lessons, prompts={**lessons.prompts, "support": _PROMPT})


def verifier_from_judge(folder: Path, tokenizer: Any) -> Any:
    """A classifier with the judge's layers, whose head are the judge's output embeddings of the verdicts' words."""
    judge = LlamaForCausalLM.from_pretrained(folder).float()
    names = dict(enumerate(LABELS))
    labels = {"num_labels": len(LABELS), "id2label": names, "label2id": {name: place for place, name in names.items()}}
    config = LlamaConfig.from_dict({**judge.config.to_dict(), "architectures": None, **labels})
    model = LlamaForSequenceClassification(config)
    model.model.load_state_dict(judge.model.state_dict())
    with torch.no_grad():
        model.score.weight.copy_(judge.lm_head.weight[_verdict_tokens(tokenizer)])
    return model


def verifier_accuracy(model: Any, lessons: LessonSettings, seed: int) -> VerifierAccuracy:
    """Accuracy on statements of answers, over worlds that training never draws."""
    model.eval()
    statements, right = Counter[str](), Counter[str]()
    for number in range(_MEASURED_GROUPS):
        group = make_call_group(lessons, "support", f"held-out:verifier:{seed}:{number}", _STATEMENTS)
        for call in group.calls:
            tokens = torch.tensor([encode(lessons.tokenizer, f"{BOS}{USER}{group.shared}{call.own}{ASSISTANT}[[")])
            with torch.inference_mode():
                label = int(model(input_ids=tokens).logits[0].argmax())
            statements[call.reply] += 1
            right[call.reply] += _VERDICTS[label] == call.reply
    by_truth = {}
    for label_name, verdict in zip(LABELS, _VERDICTS, strict=True):
        if statements[verdict]:
            by_truth[label_name] = (statements[verdict], round(100 * right[verdict] / statements[verdict], 1))
    return VerifierAccuracy(round(100 * right.total() / statements.total(), 1), by_truth)


def _verdict_tokens(tokenizer: Any) -> list[int]:
    """The token after "[[" of each verdict."""
    opening = len(encode(tokenizer, "[["))
    return [encode(tokenizer, verdict)[opening] for verdict in _VERDICTS]


def _train_step(
    model: Any, optimizer: torch.optim.Optimizer, batches: Sequence[JudgeBatch], verdict_tokens: Sequence[int]
) -> tuple[float, int, int]:
    """One step of AdamW; returns the mean loss, the statements with a right label, and all statements."""
    model.train()
    optimizer.zero_grad()
    total = sum(batch.calls for batch in batches)
    loss_sum, right = 0.0, 0
    for batch in batches:
        next_tokens, is_reply = batch.labels[0, 1:], batch.replies[0, 1:]
        places, labels = [], []
        for label, token in enumerate(verdict_tokens):
            of_label = torch.nonzero((next_tokens == token) & is_reply)[:, 0]
            places.append(of_label)
            labels.append(torch.full_like(of_label, label))
        hidden = model.model(
            input_ids=batch.tokens,
            position_ids=batch.positions,
            use_cache=False,
            shared=batch.shared,
            calls=batch.calls,
        ).last_hidden_state[0]
        logits, truth = model.score(hidden[torch.cat(places)]), torch.cat(labels)
        loss = functional.cross_entropy(logits, truth, reduction="sum") / total
        torch.autograd.backward(loss)
        loss_sum += float(loss.item())
        right += int((logits.argmax(-1) == truth).sum())
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss_sum, right, total


def export_verifier(model: Any, tokenizer: Any, out: Path) -> None:
    """Write the model, in 16 bits, and its tokenizer."""
    out.mkdir(parents=True, exist_ok=True)
    half_weights = {}
    for name, weight in model.state_dict().items():
        half_weights[name] = weight.to(torch.float16).contiguous()
    model.save_pretrained(out, state_dict=half_weights)
    tokenizer.save_pretrained(out)


def _card(
    model: Any, settings: VerifierTrainingSettings, measured: tuple[VerifierAccuracy, VerifierAccuracy], minutes: int
) -> str:
    """`measured`: before and after training."""
    before, after = measured
    rows = []
    for truth, (count, percent) in after.by_truth.items():
        rows.append(f"| {truth} | {count} | {percent} |")
    return _CARD.format(
        parameters=model.num_parameters(),
        template=TEMPLATE.replace("\n", "\\n"),
        steps=settings.steps,
        seed=settings.seed,
        machine=machine(),
        minutes=minutes,
        count=sum(count for count, _ in after.by_truth.values()),
        right=after.right,
        before=before.right,
        rows="\n".join(rows),
    )
