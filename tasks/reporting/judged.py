"""A question with its judged answers, as the figures of a dataset look at it: from a shard or from evidence rows.

Both ways give the same, so that what a card says of a dataset can be worked out again from the dataset alone.
Leaves out the greedy answer, which nobody judges.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tasks.records.dataset import ShardData
from tasks.records.example import Answer, Example, Judgement

_REFUSED = frozenset({"prompt_too_long", "content_filter", "bad_request"})


Indices = tuple[int, int]  # of the chosen and the rejected sample


@dataclass(frozen=True, slots=True)
class Score:
    """One scorer's word on an answer. `value` is null exactly when `reason` says why."""

    value: float | None
    reason: str | None
    evidence: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """A sampled answer with its reward and its scores by scorer."""

    index: int
    text: str
    refused: bool  # by the model's server: no answer at all
    reward: float | None
    scores: Mapping[str, Score]


@dataclass(frozen=True, slots=True)
class JudgedQuestion:
    """A question, its sampled answers, and which of them are its pairs, if it has some."""

    example: Example
    answers: tuple[JudgedAnswer, ...]
    pairs: tuple[Indices, ...]


def indices_by_question(pairs: Iterable[tuple[str, int, int]]) -> dict[str, tuple[Indices, ...]]:
    """The pairs of each question that has some, out of (example_id, chosen_index, rejected_index)."""
    found: dict[str, list[Indices]] = {}
    for example_id, chosen, rejected in pairs:
        found.setdefault(example_id, []).append((chosen, rejected))
    return {example_id: tuple(of_example) for example_id, of_example in found.items()}


def refused(answer: Answer) -> bool:
    """True when the server gave no answer, so that there is nothing to compare with a reference."""
    return _refused(answer.text, answer.finish_reason)


def judged_shard(shard: ShardData) -> Iterator[JudgedQuestion]:
    """The questions of a shard, in its order."""
    scores: dict[tuple[str, int], dict[str, Score]] = {}
    for each in shard.judgements:
        scores.setdefault((each.example_id, each.sample_index), {})[each.scorer] = _score(each)
    answers: dict[str, list[JudgedAnswer]] = {}
    for answer in shard.answers:
        key = (answer.example_id, answer.sample_index)
        if answer.sample_index >= 0:
            judged = JudgedAnswer(
                answer.sample_index, answer.text, refused(answer), shard.rewards.get(key), scores.get(key, {})
            )
            answers.setdefault(answer.example_id, []).append(judged)
    pairs = indices_by_question((each.example_id, each.chosen_index, each.rejected_index) for each in shard.pairs)
    for example in shard.examples:
        name = example.example_id
        yield JudgedQuestion(example, tuple(answers.get(name, ())), pairs.get(name, ()))


def judged_rows(
    rows: Iterable[Mapping[str, Any]], pairs: Mapping[str, tuple[Indices, ...]]
) -> Iterator[JudgedQuestion]:
    """The questions of a dataset's evidence rows, with their `pairs`; those of one question stand together."""
    for _, group in groupby(rows, key=lambda row: row["example_id"]):
        of_example = [row for row in group if row["sample_index"] >= 0]
        if not of_example:
            continue
        first = of_example[0]
        references = tuple(first["references"])
        about = (first["example_id"], first["question"], first["context_id"])
        yield JudgedQuestion(
            Example(*about, references, first["kind"], first["language"], "{}"),
            tuple(_judged_row(row) for row in of_example),
            pairs.get(first["example_id"], ()),
        )


def evidence_of(text: str) -> Mapping[str, Any]:
    """A judgement's evidence; empty for what is no JSON object, which tells nothing that figures look for."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _score(judgement: Judgement) -> Score:
    return Score(judgement.score, judgement.reason, evidence_of(judgement.evidence))


def _judged_row(row: Mapping[str, Any]) -> JudgedAnswer:
    scores = {
        each["scorer"]: Score(each["score"], each["reason"], evidence_of(each["evidence"]))
        for each in row["judgements"]
    }
    return JudgedAnswer(
        row["sample_index"], row["text"], _refused(row["text"], row["finish_reason"]), row["reward"], scores
    )


def _refused(text: str, finish_reason: str) -> bool:
    return not text and finish_reason in _REFUSED
