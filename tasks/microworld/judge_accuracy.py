"""How often the judge's replies are right, on worlds that it was not trained on; and its folder, with a card.

    python -m tasks.microworld.judge_accuracy --model infra/models/box/microworld-judge \
        --prompts tasks/prompts/en --count 200

The truth is what the rules reply. Prompts are the factory's terse ones; replies are greedy and read strictly: a reply
that does not have exactly the form that the prompt asks for is unparsable, and counts as wrong. Ratings are right
within 1 of the truth; statements and notes are right when they are the same lines, in any order; every one of several
verdicts counts. Statements are those of answers, most of them with faults, each with the passages that hold its names.
The factory's embeddings, retries and constrained decoding are left out; they can only help. The folder loads with
transformers and vLLM as it is; both compute in 32 bits, as its config says.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tasks.microworld import rules
from tasks.microworld.judge_batches import prompt_tokens
from tasks.microworld.judge_lessons import KINDS, RATINGS, LessonSettings, lesson_settings, make_call_group
from tasks.microworld.training import generate_replies, generation_config, machine

_CARD_CALLS = 200  # of each kind, for the table of the card
_BATCH = 8  # calls
_MAX_REPLY_TOKENS = 320
_CALLS_PER_GROUP = {"support": 1, "supports": 1}  # 4 for every other kind
_RATING = re.compile(r"\[\[(10|[0-9])\]\]")
_FACTS = re.compile(r"<statement>[^<>\n]+</statement>(\n<statement>[^<>\n]+</statement>)*")
_VERDICTS = (rules.FULL, rules.PARTIAL, rules.NONE)

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
  (`tasks/microworld/train_judge.py`); AdamW, cosine, running average of the weights; loss on the replies, and on what
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


@dataclass(frozen=True)
class Accuracy:
    """One kind of call. `right`, `exact` and `unparsable` are percent of `judged`: calls, or verdicts of `supports`.

    `by_truth`: for each truth that is one word, how often it came up and the percent of those that were right.
    """

    kind: str
    judged: int
    right: float
    exact: float
    unparsable: float
    by_truth: Mapping[str, tuple[int, float]]


@dataclass(frozen=True)
class ReplyCheck:
    """One reply, or one verdict of it, compared with the truth."""

    truth: str
    right: bool
    exact: bool
    parsed: bool


def judge_accuracy(model: Any, settings: LessonSettings, seed: int | str, count: int) -> list[Accuracy]:
    """Accuracy of every kind on `count` fresh calls of it."""
    return [_accuracy_of_kind(kind, model, settings, seed, count) for kind in KINDS]


def held_out_calls(settings: LessonSettings, kind: str, seed: int | str, count: int) -> list[tuple[str, str]]:
    """So many (prompt, true reply) of one kind, from worlds that the training never draws."""
    calls: list[tuple[str, str]] = []
    number = 0
    while len(calls) < count:
        group = make_call_group(settings, kind, f"held-out:{seed}:{number}", _CALLS_PER_GROUP.get(kind, 4))
        for call in group.calls:
            calls.append((group.shared + call.own, call.reply))
        number += 1
    return calls[:count]


def check_reply(kind: str, reply: str, truth: str) -> list[ReplyCheck]:
    """A reply compared with the truth: one check, or one for each of several verdicts in a call."""
    reply = reply.strip()
    if kind in RATINGS:
        return [_check_rating(reply, truth)]
    if kind == "support":
        return [ReplyCheck(truth, reply == truth, reply == truth, reply in _VERDICTS)]
    if kind == "supports":
        return _check_verdicts(reply, truth)
    nothing = rules.NO_FACTS if kind == "facts" else rules.NO_NOTES
    parsed = bool(reply)
    if kind == "facts" and reply != nothing:
        parsed = bool(_FACTS.fullmatch(reply))
    same_lines = set(reply.splitlines()) == set(truth.splitlines())
    return [ReplyCheck("nothing" if truth == nothing else "something", same_lines, same_lines, parsed)]


def markdown_table(accuracies: Sequence[Accuracy]) -> list[str]:
    """The rows of a Markdown table."""
    rows = ["| call | judged | right | exact | unparsable | by truth |", "|---|---|---|---|---|---|"]
    for accuracy in accuracies:
        by_truth = []
        for truth, (count, right) in accuracy.by_truth.items():
            by_truth.append(f"{truth} {right} (of {count})")
        rows.append(
            f"| {accuracy.kind} | {accuracy.judged} | {accuracy.right} | {accuracy.exact} | {accuracy.unparsable} "
            f"| {', '.join(by_truth)} |"
        )
    return rows


def greedy_replies(model: Any, tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    """The greedy reply to each prompt. Prompts of similar length are computed together."""
    chats = [prompt_tokens(tokenizer, prompt) for prompt in prompts]
    order = sorted(range(len(chats)), key=lambda index: len(chats[index]))
    replies = [""] * len(chats)
    for start in range(0, len(order), _BATCH):
        indices = order[start : start + _BATCH]
        batch = generate_replies(model, tokenizer, [chats[index] for index in indices], _MAX_REPLY_TOKENS)
        for index, (reply,) in zip(indices, batch, strict=True):
            replies[index] = reply
    return replies


def export_judge(
    model: Any,
    settings: LessonSettings,
    seed: int,
    steps: int,
    start: str,
    out: Path,
    step: int,
    seconds: float,
) -> dict[str, float]:
    """Measure the model, write it with its card, and return the percent of right replies by kind of call.

    `steps`: of the run as it was asked for; `step`: those that were made; `start`: what the model began as, in words
    for the card.
    """
    model.eval()
    out.mkdir(parents=True, exist_ok=True)
    model.generation_config = generation_config(settings.tokenizer)
    accuracies = judge_accuracy(model, settings, seed, _CARD_CALLS)
    half_weights = {}
    for name, weight in model.state_dict().items():
        half_weights[name] = weight.to(torch.float16).contiguous()
    model.save_pretrained(out, state_dict=half_weights)
    settings.tokenizer.save_pretrained(out)
    card = _CARD.format(
        parameters=model.num_parameters(),
        step=step,
        start=start,
        seed=seed,
        steps=steps,
        machine=machine(),
        minutes=round(seconds / 60),
        count=_CARD_CALLS,
        rows="\n".join(markdown_table(accuracies)),
    )
    (out / "README.md").write_text(card, encoding="utf-8")
    return {accuracy.kind: accuracy.right for accuracy in accuracies}


def main() -> None:
    """Read the command line, measure the model in a folder, print the table."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    parser = argparse.ArgumentParser(description="Measure a judge model of the microworld, call by call.")
    parser.add_argument("--model", type=Path, required=True, help="folder of the judge model")
    parser.add_argument("--prompts", type=Path, required=True, help="folder with judge-terse-*.txt")
    parser.add_argument("--count", type=int, default=200, help="calls of each kind")
    parser.add_argument("--seed", type=int, default=0, help="seed of the worlds")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = AutoModelForCausalLM.from_pretrained(arguments.model).float().eval()
    settings = lesson_settings(arguments.prompts, AutoTokenizer.from_pretrained(arguments.model))
    accuracies = judge_accuracy(model, settings, arguments.seed, arguments.count)
    if arguments.json:
        print(json.dumps(accuracies, default=asdict))
    else:
        print("\n".join(markdown_table(accuracies)))


def _accuracy_of_kind(kind: str, model: Any, settings: LessonSettings, seed: int | str, count: int) -> Accuracy:
    calls = held_out_calls(settings, kind, seed, count)
    replies = greedy_replies(model, settings.tokenizer, [prompt for prompt, _ in calls])
    checks: list[ReplyCheck] = []
    for reply, (_, truth) in zip(replies, calls, strict=True):
        checks += check_reply(kind, reply, truth)
    right, exact, unparsable = 0, 0, 0
    judged_by_truth, right_by_truth = Counter[str](), Counter[str]()
    for check in checks:
        right += check.right
        exact += check.exact
        unparsable += not check.parsed
        judged_by_truth[check.truth] += 1
        right_by_truth[check.truth] += check.right
    by_truth = {}
    for truth, judged in sorted(judged_by_truth.items()):
        by_truth[truth] = (judged, _percent(right_by_truth[truth], judged))
    judged = len(checks)
    percents = _percent(right, judged), _percent(exact, judged), _percent(unparsable, judged)
    return Accuracy(kind, judged, *percents, by_truth)


def _check_rating(reply: str, truth: str) -> ReplyCheck:
    true_rating, rating = _RATING.fullmatch(truth), _RATING.fullmatch(reply)
    assert true_rating is not None  # the rules write no other form
    is_near = rating is not None and abs(int(rating.group(1)) - int(true_rating.group(1))) <= 1
    return ReplyCheck(true_rating.group(1), is_near, reply == truth, rating is not None)


def _check_verdicts(reply: str, truth: str) -> list[ReplyCheck]:
    """Several verdicts, one on a line after its number; a reply with one bad line is unparsable as a whole."""
    lines, true_lines = reply.splitlines(), truth.splitlines()
    parsed = len(lines) == len(true_lines)
    for number, line in enumerate(lines, 1):
        line_number, _, verdict = line.partition(". ")
        if line_number != str(number) or verdict not in _VERDICTS:
            parsed = False
    if not parsed:
        lines = [""] * len(true_lines)
    checks = []
    for line, true_line in zip(lines, true_lines, strict=True):
        verdict = true_line.partition(". ")[2]
        checks.append(ReplyCheck(verdict, line == true_line, line == true_line, parsed))
    return checks


def _percent(count: int, total: int) -> float:
    return round(100 * count / max(total, 1), 1)


if __name__ == "__main__":
    main()
