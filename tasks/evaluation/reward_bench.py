"""Reward benches: answers to a prompt that people or their makers have ranked, and how often a reward ranks them so.

Three shapes of rows are read, as they are published:

- RewardBench: prompt, chosen, rejected, subset; texts or chat messages.
- RewardBench 2: the same with lists of chosen and of rejected answers, of which the best must be a chosen one.
- Long-RewardBench: prompt_template (chat messages), question, and chosen and rejected (PairWise), or candidates, the
  best first (BestOfN); its subset is the file's name, its length ctx_length_for_length.

A row may have its text in `context`, and its question in `question`: that is what a scorer is given. Else the question
is cut from the end or the beginning of the prompt; a prompt without a question of its own is all question.

A set is right where the answer with the highest reward is one of the best; answers with equal rewards share. A set with
an answer that has no reward is missing, and counted by its reason. Pairs within a set are read too: the share of pairs
of unequal rank that the reward orders so, equal rewards counting half.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from infra.canonical import text_id
from infra.errors import InputError
from tasks.evaluation.statistics import mean_interval
from tasks.questions.question import SourceRow
from tasks.questions.rows import read_rows
from tasks.records.example import Answer, AnswerId, Context, Example, Judgement

RESAMPLES, SEED = 2000, 0
PAIR, BEST_OF_N, RANKING = "pair", "best of N", "ranking"
_KINDS = (PAIR, BEST_OF_N, RANKING)
_SHAPES = "a row needs prompt, chosen and rejected (RewardBench), or prompt_template and candidates (Long-RewardBench)"


@dataclass(frozen=True, slots=True)
class RankedSet:
    """Answers of one prompt. `ranks`: 0 is the best, by answer."""

    example: Example
    context: Context
    answers: tuple[Answer, ...]
    ranks: tuple[int, ...]
    kind: str  # PAIR, BEST_OF_N or RANKING
    subset: str
    length: str  # as the bench names it; "" where it does not


def read_bench(source: str) -> list[RankedSet]:
    """The sets of a bench: a file or folder of JSONL or Parquet, or a hub name.

    Raises InputError naming file, row and field of the first row that is none.
    """
    sets = [_ranked_set(row) for row in read_rows(source)]
    ids = Counter(ranked.example.example_id for ranked in sets)
    repeated = [example_id for example_id, count in ids.items() if count > 1]
    if repeated:
        raise InputError(f"{source}: {repeated[0]} is there {ids[repeated[0]]} times; give every row another id")
    return sets


def bench_figures(
    sets: Sequence[RankedSet], rewards: Mapping[AnswerId, float | None], judgements: Sequence[Judgement]
) -> dict[str, Any]:
    """The agreement of a reward with a bench, ready for JSON.

    {"sets", "answers", "accuracy": figure, "pairs": figure, "macro": mean of the subsets' accuracies or null,
     "kinds", "subsets", "lengths": {name: figure}, "scorers": {name: figure}}; a figure {"value", "low", "high", "n":
    sets with a reward, "ties": sets whose highest reward several answers have, "missing": {reason: sets}}. "pairs" has
    the share of ordered pairs, a mean over sets.
    """
    reasons = _null_reasons(judgements)
    outcomes = [_outcome(ranked, rewards, reasons) for ranked in sets]
    subsets = _figures_by(outcomes, [ranked.subset for ranked in sets])
    values = [figure["value"] for figure in subsets.values() if figure["value"] is not None]
    scorers = {}
    for name in dict.fromkeys(judgement.scorer for judgement in judgements):
        scores = {judgement.answer_id: judgement.score for judgement in judgements if judgement.scorer == name}
        scorers[name] = _figure([_outcome(ranked, scores, reasons) for ranked in sets])
    pairs = [outcome.pairs for outcome in outcomes if outcome.pairs is not None]
    return {
        "sets": len(sets),
        "answers": sum(len(ranked.answers) for ranked in sets),
        "accuracy": _figure(outcomes),
        "pairs": asdict(mean_interval(pairs, RESAMPLES, SEED)),
        "macro": round(sum(values) / len(values), 6) if len(subsets) > 1 and values else None,
        "kinds": _figures_by(outcomes, [ranked.kind for ranked in sets], _KINDS),
        "subsets": subsets,
        "lengths": _figures_by(outcomes, [ranked.length for ranked in sets]),
        "scorers": scorers,
    }


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Of a set: how right the choice is, whether several answers have the highest reward, and the pairs' share."""

    right: float | None
    tie: bool
    pairs: float | None
    reason: str


def _outcome(ranked: RankedSet, rewards: Mapping[AnswerId, float | None], reasons: Mapping[AnswerId, str]) -> _Outcome:
    values: list[float] = []
    for answer in ranked.answers:
        reward = rewards.get(answer.id)
        if reward is None:
            return _Outcome(None, False, None, reasons.get(answer.id, "no_reward"))
        values.append(reward)
    highest = max(values)
    chosen = [rank for rank, value in zip(ranked.ranks, values, strict=True) if value == highest]
    best = min(ranked.ranks)
    ordered: list[float] = []
    for place, rank in enumerate(ranked.ranks):
        for other, other_rank in enumerate(ranked.ranks):
            if rank < other_rank:
                ordered.append((values[place] > values[other]) + 0.5 * (values[place] == values[other]))
    return _Outcome(chosen.count(best) / len(chosen), len(chosen) > 1, sum(ordered) / len(ordered), "")


def _figures_by(outcomes: Sequence[_Outcome], names: Sequence[str], order: Sequence[str] = ()) -> dict[str, Any]:
    """A figure for each name that is not empty, in this order, or in that of their appearance."""
    figures = {}
    for name in order or dict.fromkeys(names):
        some = [outcome for outcome, own in zip(outcomes, names, strict=True) if own == name]
        if name and some:
            figures[name] = _figure(some)
    return figures


def _figure(outcomes: Sequence[_Outcome]) -> dict[str, Any]:
    right = [outcome.right for outcome in outcomes if outcome.right is not None]
    missing = Counter(outcome.reason for outcome in outcomes if outcome.right is None)
    ties = sum(outcome.tie for outcome in outcomes)
    return asdict(mean_interval(right, RESAMPLES, SEED)) | {"ties": ties, "missing": dict(sorted(missing.items()))}


def _null_reasons(judgements: Sequence[Judgement]) -> dict[AnswerId, str]:
    """Why an answer has no reward: the first reason of a scorer."""
    reasons: dict[AnswerId, str] = {}
    for judgement in judgements:
        if judgement.score is None:
            reasons.setdefault(judgement.answer_id, judgement.reason or "no_reward")
    return reasons


def _ranked_set(row: SourceRow) -> RankedSet:
    values, place = row.values, f"{row.file}, row {row.number}"
    prompt = _text(values.get("prompt_template") or values.get("prompt"), place, "prompt")
    if values.get("candidates"):
        texts = _texts(values["candidates"], place, "candidates")
        ranks, kind = list(range(len(texts))), RANKING
    else:
        chosen, rejected = (
            _texts(values.get("chosen"), place, "chosen"),
            _texts(values.get("rejected"), place, "rejected"),
        )
        texts, ranks = [*chosen, *rejected], [0] * len(chosen) + [1] * len(rejected)
        kind = PAIR if len(texts) == 2 else BEST_OF_N
    if len(texts) < 2:
        raise InputError(f"{place}: there is one answer, so nothing to rank; {_SHAPES}")
    question, context = _question_and_context(values, prompt)
    stem = PurePosixPath(row.file).name.split(".")[0]
    example_id = f"{stem}-{values.get('id', row.number)}"
    context_id = text_id(context)
    answers = []
    for index, text in enumerate(texts):
        answers.append(Answer(example_id, index, text, "stop", 0, 0, "bench", ""))
    return RankedSet(
        Example(example_id, question, context_id, (), kind, str(values.get("language") or "en"), "{}"),
        Context(context_id, context, 0, (0,), (len(context),), ("",)),
        tuple(answers),
        tuple(ranks),
        kind,
        str(values.get("subset") or stem),
        str(values.get("ctx_length_for_length") or ""),
    )


def _question_and_context(values: Mapping[str, Any], prompt: str) -> tuple[str, str]:
    """(question, context) of a row."""
    question, context = str(values.get("question") or "").strip(), str(values.get("context") or "").strip()
    if context:
        return question or prompt, context
    if not question or question not in prompt:
        return prompt, ""
    before, _, after = prompt.rpartition(question)
    return question, f"{before.strip()}\n\n{after.strip()}".strip()


def _texts(value: Any, place: str, field: str) -> list[str]:
    """One answer, or several; a list of messages is one."""
    several = isinstance(value, Sequence) and not isinstance(value, str) and not _is_messages(value)
    return [_text(one, place, field) for one in (value if several else [value])]


def _text(value: Any, place: str, field: str) -> str:
    """A text, or the texts of chat messages. Raises InputError naming the field."""
    if isinstance(value, str) and value.strip():
        return value
    if _is_messages(value):
        return "\n\n".join(str(message["content"]) for message in value)
    raise InputError(f"{place}: {field} is no text and no list of messages; {_SHAPES}")


def _is_messages(value: Any) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str) or not len(value):
        return False
    return all(isinstance(message, Mapping) and isinstance(message.get("content"), str) for message in value)


def bench_rows(figures: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(what, name, figure) of every figure, the whole first."""
    yield "all", "", figures["accuracy"]
    for what in ("kinds", "subsets", "lengths", "scorers"):
        by_name = figures[what]
        if len(by_name) > 1 or what == "subsets":
            for name, figure in by_name.items():
                yield what, name, figure
