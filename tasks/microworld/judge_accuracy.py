"""How often the judge's replies are right, call by call, by the rules' truth on worlds that it has not seen.

    python -m tasks.microworld.judge_accuracy --model infra/models/box/microworld-judge \
        --prompts tasks/prompts/en --count 200

Prompts are the factory's terse ones; replies are decoded greedily and read strictly: a reply that is not exactly of
the form that was asked for is unparsable, and counts as wrong. Ratings are right within 1 of the truth; statements and
notes are right when they are the same lines, in any order; of several verdicts in a call each counts. Statements are
those that answers make, most of them faulty ones, each with the passages that hold its names. Leaves out the factory's
embeddings, retries and constrained decoding, which can only help.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tasks.microworld import rules
from tasks.microworld.evaluate import replies
from tasks.microworld.judge_batches import prompt_ids
from tasks.microworld.judge_lessons import KINDS, RATINGS, Desk, make_scene, open_desk

_BATCH = 8  # calls
_LONGEST = 320  # tokens of a reply
_PER_SCENE = {"support": 1, "supports": 1}
_RATING = re.compile(r"\[\[(10|[0-9])\]\]")
_FACTS = re.compile(r"<statement>[^<>\n]+</statement>(\n<statement>[^<>\n]+</statement>)*")
_VERDICTS = (rules.FULL, rules.PARTIAL, rules.NONE)


@dataclass(frozen=True)
class Accuracy:
    """One kind of call. `right`, `exact` and `unparsable` in percent of `judged` (verdicts, for several in a call).

    `by_truth`: how many there were of each truth that can be named in a word, and the percent of them that were right.
    """

    kind: str
    judged: int
    right: float
    exact: float
    unparsable: float
    by_truth: Mapping[str, tuple[int, float]]


@dataclass(frozen=True)
class _Mark:
    """One reply held against the truth."""

    truth: str
    right: bool
    exact: bool
    parsed: bool


def judge_accuracy(model: Any, desk: Desk, seed: int | str, count: int) -> list[Accuracy]:
    """Accuracy of every kind on `count` fresh calls of it."""
    return [_accuracy(kind, model, desk, seed, count) for kind in KINDS]


def held_out_calls(desk: Desk, kind: str, seed: int | str, count: int) -> list[tuple[str, str]]:
    """So many (prompt, truth) of one kind, from worlds that training never draws."""
    calls: list[tuple[str, str]] = []
    number = 0
    while len(calls) < count:
        scene = make_scene(desk, kind, f"held-out:{seed}:{number}", _PER_SCENE.get(kind, 4))
        calls += [(scene.shared + call.own, call.reply) for call in scene.calls]
        number += 1
    return calls[:count]


def marked(kind: str, reply: str, truth: str) -> list[_Mark]:
    """A reply held against the truth: one mark, or for several verdicts in a call one for each."""
    said = reply.strip()
    if kind in RATINGS:
        return [_rating(said, truth)]
    if kind == "support":
        return [_Mark(truth, said == truth, said == truth, said in _VERDICTS)]
    if kind == "supports":
        lines, wanted = said.splitlines(), truth.splitlines()
        parsed = len(lines) == len(wanted) and all(
            line.partition(". ")[0] == str(number) and line.partition(". ")[2] in _VERDICTS
            for number, line in enumerate(lines, 1)
        )
        found = lines if parsed else [""] * len(wanted)
        pairs = list(zip(found, wanted, strict=True))
        return [_Mark(want.partition(". ")[2], line == want, line == want, parsed) for line, want in pairs]
    nothing = rules.NO_FACTS if kind == "facts" else rules.NO_NOTES
    parsed = said == nothing or (bool(_FACTS.fullmatch(said)) if kind == "facts" else bool(said))
    same = set(said.splitlines()) == set(truth.splitlines())
    return [_Mark("nothing" if truth == nothing else "something", same, same, parsed)]


def table(measured: Sequence[Accuracy]) -> list[str]:
    """Rows of a Markdown table."""
    rows = ["| call | judged | right | exact | unparsable | by truth |", "|---|---|---|---|---|---|"]
    for each in measured:
        detail = ", ".join(f"{truth} {right} (of {of})" for truth, (of, right) in each.by_truth.items())
        rows.append(f"| {each.kind} | {each.judged} | {each.right} | {each.exact} | {each.unparsable} | {detail} |")
    return rows


def greedy_replies(model: Any, tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    """The greedy reply to each prompt, a few at a time, prompts of like length together."""
    chats = [prompt_ids(tokenizer, prompt) for prompt in prompts]
    order = sorted(range(len(chats)), key=lambda place: len(chats[place]))
    said = [""] * len(chats)
    for start in range(0, len(order), _BATCH):
        places = order[start : start + _BATCH]
        texts = replies(model, tokenizer, [chats[place] for place in places], 1, _LONGEST)
        for place, (text,) in zip(places, texts, strict=True):
            said[place] = text
    return said


def main() -> None:
    """Read the command line, measure a judge's folder, print the table."""
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
    desk = open_desk(arguments.prompts, AutoTokenizer.from_pretrained(arguments.model))
    measured = judge_accuracy(model, desk, arguments.seed, arguments.count)
    print(json.dumps([asdict(each) for each in measured]) if arguments.json else "\n".join(table(measured)))


def _accuracy(kind: str, model: Any, desk: Desk, seed: int | str, count: int) -> Accuracy:
    calls = held_out_calls(desk, kind, seed, count)
    said = greedy_replies(model, desk.tokenizer, [prompt for prompt, _ in calls])
    marks = [mark for reply, (_, truth) in zip(said, calls, strict=True) for mark in marked(kind, reply, truth)]
    by_truth: dict[str, list[bool]] = {}
    for mark in marks:
        by_truth.setdefault(mark.truth, []).append(mark.right)
    return Accuracy(
        kind,
        len(marks),
        _percent([mark.right for mark in marks]),
        _percent([mark.exact for mark in marks]),
        _percent([not mark.parsed for mark in marks]),
        {truth: (len(right), _percent(right)) for truth, right in sorted(by_truth.items())},
    )


def _rating(said: str, truth: str) -> _Mark:
    wanted, found = _RATING.fullmatch(truth), _RATING.fullmatch(said)
    assert wanted is not None  # the rules write no other form
    near = found is not None and abs(int(found.group(1)) - int(wanted.group(1))) <= 1
    return _Mark(wanted.group(1), near, said == truth, found is not None)


def _percent(hits: Sequence[bool]) -> float:
    return round(100 * sum(hits) / max(len(hits), 1), 1)


if __name__ == "__main__":
    main()
