"""A question with its judged answers: what agreement, the judge's figures and the comparison of judges are made from.

The same questions come from a shard in memory and from the evidence rows of a published dataset, so that the figures
of a card can be computed again from the dataset alone. The greedy answer is left out: it is never judged.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from tasks.records.dataset import ShardData
from tasks.records.example import Example, Judgement
from tasks.refused_answers import is_refused, without_answer

INDEX_COLUMNS = ("example_id", "chosen_index", "rejected_index")  # of a pair

PairIndices = tuple[int, int]  # sample indices of the chosen and of the rejected answer


@dataclass(frozen=True, slots=True)
class Score:
    """A scorer's result for an answer. `value` is null exactly when `reason` says why."""

    value: float | None
    reason: str | None
    evidence: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """A sampled answer with its reward and its scores by scorer."""

    index: int
    text: str
    refused: bool  # the model's server gave no answer
    reward: float | None
    scores: Mapping[str, Score]


@dataclass(frozen=True, slots=True)
class JudgedQuestion:
    """A question, its sampled answers and its pairs, which may be none."""

    example: Example
    answers: tuple[JudgedAnswer, ...]
    pairs: tuple[PairIndices, ...]


def indices_by_question(pairs: Iterable[tuple[str, int, int]]) -> dict[str, tuple[PairIndices, ...]]:
    """Pairs by example id, from (example_id, chosen_index, rejected_index); a question without a pair has no entry."""
    by_question: dict[str, tuple[PairIndices, ...]] = {}
    for example_id, chosen, rejected in pairs:
        by_question[example_id] = (*by_question.get(example_id, ()), (chosen, rejected))
    return by_question


def pairs_of_shard(shard: ShardData) -> dict[str, tuple[PairIndices, ...]]:
    """Pairs by example id; a question without a pair has no entry."""
    return indices_by_question(map(attrgetter(*INDEX_COLUMNS), shard.pairs))


def questions_of_shard(shard: ShardData) -> Iterator[JudgedQuestion]:
    """The questions of a shard, in its order."""
    scores: dict[tuple[str, int], dict[str, Score]] = {}
    for judgement in shard.judgements:
        of_answer = scores.setdefault((judgement.example_id, judgement.sample_index), {})
        of_answer[judgement.scorer] = _score(judgement)
    answers: dict[str, list[JudgedAnswer]] = {}
    for answer in shard.answers:
        if answer.sample_index < 0:
            continue
        answer_id = (answer.example_id, answer.sample_index)
        judged_answer = JudgedAnswer(
            index=answer.sample_index,
            text=answer.text,
            refused=is_refused(answer),
            reward=shard.rewards.get(answer_id),
            scores=scores.get(answer_id, {}),
        )
        answers.setdefault(answer.example_id, []).append(judged_answer)
    pairs = pairs_of_shard(shard)
    for example in shard.examples:
        example_id = example.example_id
        yield JudgedQuestion(example, tuple(answers.get(example_id, ())), pairs.get(example_id, ()))


def questions_of_rows(
    rows: Iterable[Mapping[str, Any]], pairs: Mapping[str, tuple[PairIndices, ...]]
) -> Iterator[JudgedQuestion]:
    """The questions of a dataset's evidence rows, with their `pairs`; rows of a question have to be neighbours."""
    for _, group in groupby(rows, key=lambda row: row["example_id"]):
        samples = [row for row in group if row["sample_index"] >= 0]
        if not samples:
            continue
        first = samples[0]
        example = Example(
            example_id=first["example_id"],
            question=first["question"],
            context_id=first["context_id"],
            references=tuple(first["references"]),
            kind=first["kind"],
            language=first["language"],
            metadata="{}",
        )
        answers = tuple(map(_answer_of_row, samples))
        yield JudgedQuestion(example, answers, pairs.get(example.example_id, ()))


def parse_evidence(text: str) -> Mapping[str, Any]:
    """A judgement's evidence. Empty for a text that is not a JSON object: no figure can be made from it."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _score(judgement: Judgement) -> Score:
    return Score(judgement.score, judgement.reason, parse_evidence(judgement.evidence))


def _answer_of_row(row: Mapping[str, Any]) -> JudgedAnswer:
    scores = {}
    for judgement in row["judgements"]:
        evidence = parse_evidence(judgement["evidence"])
        scores[judgement["scorer"]] = Score(judgement["score"], judgement["reason"], evidence)
    return JudgedAnswer(
        index=row["sample_index"],
        text=row["text"],
        refused=without_answer(row["text"], row["finish_reason"]),
        reward=row["reward"],
        scores=scores,
    )
