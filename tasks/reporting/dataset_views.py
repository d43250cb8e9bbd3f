"""What `longmill agreement` and `longmill inspect` show of a published dataset; all of it comes from its folder.

`agreement_view`: agreement of the scores with references, with people's labels, or with another judge. `pair_list`
and `pair_view`: the pairs, or one pair with every score, every fact and the passages of each fact. Offsets of passages
refer to the context, which is in the prompt of the pair (`tasks.records.reader.context_in`). Of the passages that the
judge saw with a fact, the one that shares most words with it is marked: the judge does not say which one it used.
"""

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from infra.errors import InputError
from tasks.metrics import rouge_tokens
from tasks.records.reader import PublishedDataset, read_dataset
from tasks.reporting.agreement import AgreementTally, gold_preferences, label_preferences, read_labels
from tasks.reporting.judge_comparison import JudgeComparison, scored_answers
from tasks.reporting.judge_report import JudgeTally
from tasks.reporting.judged_questions import INDEX_COLUMNS, indices_by_question, parse_evidence, questions_of_rows
from tasks.reporting.prompt_context import context_in

EVIDENCE_COLUMNS = (
    "example_id",
    "context_id",
    "question",
    "references",
    "kind",
    "language",
    "sample_index",
    "text",
    "finish_reason",
    "reward",
    "judgements",
)
_LIST_COLUMNS = ("example_id", "question", "chosen_reward", "rejected_reward", "margin")
_PAIR_FIELDS = ("example_id", "split", "question", "references", "kind", "language", "margin")
_FACT_FIELDS = ("support", "reason", "shared", "reply", "number", "key")
_VERIFIER_FIELDS = ("by", "probability")
_SIDES = ("chosen", "rejected")
_MOST_IDS = 5  # ids that an error names


def agreement_view(place: str, labels: str = "", other: str = "") -> dict[str, Any]:
    """The figures of the dataset at `place`.

    {"dataset", "gold": "references" or "labels", "agreement": `AgreementTally.figures`, "judging":
    `JudgeTally.figures`, "unknown_labels": [file and row, ...], "other": dataset or null, "rejudged":
    `JudgeComparison.figures` or null}. `labels` is a file whose labels replace the references; `other` a dataset of
    the same answers. Raises InputError for a label or a dataset that cannot be read, or that is about other answers.
    """
    dataset = read_dataset(place)
    labels_by_question = read_labels(labels) if labels else None
    second = read_dataset(other) if other else None
    agreement, judge = AgreementTally(dataset.weights), JudgeTally()
    comparison = None
    if second:
        others = questions_of_rows(second.rows("evidence", EVIDENCE_COLUMNS), {})
        comparison = JudgeComparison(scored_answers(others))
    unknown_labels: list[str] = []
    example_ids = set()
    rows = dataset.rows("pairs", INDEX_COLUMNS)
    pairs = indices_by_question(map(itemgetter(*INDEX_COLUMNS), rows))
    for question in questions_of_rows(dataset.rows("evidence", EVIDENCE_COLUMNS), pairs):
        example_ids.add(question.example.example_id)
        if labels_by_question is None:
            preferences = gold_preferences(question)
        else:
            preferences, unknown = label_preferences(question, labels_by_question)
            unknown_labels += unknown
        agreement.add(question, preferences)
        judge.add(question)
        if comparison:
            comparison.add(question)
    for example_id, labels_of_question in (labels_by_question or {}).items():
        if example_id not in example_ids:
            for label in labels_of_question:
                unknown_labels.append(label.location)
    figures = agreement.figures()
    if labels_by_question is not None and figures is None:
        raise InputError(f"{labels}: no label is about answers of {dataset.place}; check example_id and the dataset")
    compared = comparison.figures() if comparison else None
    if second and compared and not compared["answers"]:
        raise InputError(f"{second.place}: holds none of the answers of {dataset.place}; give one of the same answers")
    return {
        "dataset": dataset.place,
        "gold": "references" if labels_by_question is None else "labels",
        "agreement": figures,
        "judging": judge.figures(),
        "unknown_labels": unknown_labels,
        "other": second.place if second else None,
        "rejudged": compared,
    }


def pair_list(dataset: PublishedDataset, limit: int) -> dict[str, Any]:
    """The first `limit` pairs, and counts of the rest.

    {"dataset", "pairs": count of all, "more": count of those that are not in "rows", "rows": each with its "number"
    among the pairs of its question, from 1, "drops": {reason: questions without a pair}, the most frequent first}.
    """
    rows: list[dict[str, Any]] = []
    count = 0
    for _, pairs in groupby(dataset.rows("pairs", _LIST_COLUMNS), key=lambda row: row["example_id"]):
        for number, row in enumerate(pairs, 1):
            count += 1
            if count <= limit:
                rows.append({**row, "number": number})
    drops = Counter(row["reason"] for row in dataset.rows("drops", ("reason",)))
    return {
        "dataset": dataset.place,
        "pairs": count,
        "more": count - len(rows),
        "rows": rows,
        "drops": dict(sorted(drops.items(), key=lambda drop: (-drop[1], drop[0]))),
    }


def pair_view(dataset: PublishedDataset, pair_id: str, number: int = 1) -> dict[str, Any]:
    """A pair with its evidence: pair `number` (from 1) of the question with this id, or the one id that begins so.

    {"example_id", "number", "of": the question's pairs, "split", "question", "references", "margin",
    "context": {"id", "characters" or null}, "notes": [{"part", "of", "start", "end", "text", "reason"}],
    "answers": {"chosen" and "rejected": {"index", "text", "reasoning" or null, "seen": of the context
    by its sample, null for all of it, "reward", "scores": [{"scorer", "score", "reason", "reply"}],
    "facts": [{"text", "support", "reason", "passages": [{"start", "end", "text"}], "nearest"}], "no_facts"}}}, and
    of each fact "by" and "probability" where there was a verifier.

    Raises InputError for an unknown id, with similar ids, and for a number above the question's pairs.
    """
    example_id, count = _find_question(dataset, pair_id)
    if number > count:
        raise InputError(
            f"{dataset.place}: question {example_id} has {count} pairs and no pair {number}; give a smaller --number"
        )
    pair = next(islice(_rows_of(dataset, "pairs", example_id), number - 1, None))
    return pair_details(pair, _rows_of(dataset, "evidence", example_id), number, count)


def pair_details(
    pair: Mapping[str, Any], evidence: Iterable[Mapping[str, Any]], number: int, count: int
) -> dict[str, Any]:
    """What `pair_view` returns, from a row of `pairs` with its split and the rows of `evidence` of its question."""
    context = context_in(pair["prompt"], pair)
    rows = {row["sample_index"]: row for row in evidence}
    answers = {}
    notes: Sequence[Mapping[str, Any]] = []
    for side in _SIDES:
        answers[side], notes_of_answer = _answer_view(pair, side, rows, context)
        notes = notes or notes_of_answer  # they are about the context: the same for both answers
    return {
        "number": number,
        "of": count,
        **_fields(pair, _PAIR_FIELDS),
        "prompt_tokens": pair["prompt_tokens"],
        "context": {"id": pair["context_id"], "characters": None if context is None else len(context)},
        "notes": list(map(dict, notes)),
        "answers": answers,
    }


def _rows_of(dataset: PublishedDataset, config: str, example_id: str) -> Iterator[dict[str, Any]]:
    """The rows of a question."""
    for row in dataset.rows(config):
        if row["example_id"] == example_id:
            yield row


def _find_question(dataset: PublishedDataset, pair_id: str) -> tuple[str, int]:
    """The id of the question that `pair_id` names or begins, and its number of pairs."""
    counts = Counter(row["example_id"] for row in dataset.rows("pairs", ("example_id",)))
    ids: list[str] = list(counts)
    if pair_id in counts:
        return pair_id, counts[pair_id]
    matches = []
    for example_id in ids:
        if pair_id and example_id.startswith(pair_id):
            matches.append(example_id)
    if len(matches) == 1:
        return matches[0], counts[matches[0]]
    if matches:
        raise InputError(
            f"{dataset.place}: several pairs begin with {pair_id!r}: {_first_ids(matches)}; give more of the id"
        )
    for row in dataset.rows("drops", ("example_id", "reason", "detail")):
        if row["example_id"] == pair_id:
            raise InputError(f"{pair_id}: this question gave no pair; dropped: {row['reason']} ({row['detail']})")
    similar = difflib.get_close_matches(pair_id, ids, _MOST_IDS, cutoff=0.5) or ids[:_MOST_IDS]
    hint = f"near it: {_first_ids(similar)}" if similar else "the dataset has no pairs"
    raise InputError(f"{dataset.place}: no pair {pair_id!r}; {hint}; without --pair all are listed")


def _first_ids(ids: list[str]) -> str:
    more = f" and {len(ids) - _MOST_IDS} more" if len(ids) > _MOST_IDS else ""
    return ", ".join(ids[:_MOST_IDS]) + more


def _answer_view(
    pair: Mapping[str, Any], side: str, evidence: Mapping[int, Mapping[str, Any]], context: str | None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One side of the pair with its evidence, which is by sample index, and the judge's notes on the context."""
    index = pair[f"{side}_index"]
    row = evidence.get(index)
    scores, facts, notes = [], [], []
    no_facts = False
    for judgement in row["judgements"] if row else ():
        details = parse_evidence(judgement["evidence"])
        score = _fields(judgement, ("scorer", "score", "reason"))
        scores.append({**score, "reply": details.get("reply")})
        for fact in _dicts(details.get("facts")):
            facts.append(_fact_view(fact, context))
        notes += _dicts(details.get("notes"))
        no_facts = no_facts or details.get("no_facts") is True
    view = {
        "index": index,
        "text": pair[side][-1]["content"],
        "finish_reason": row["finish_reason"] if row else None,
        "reasoning": pair.get(f"{side}_reasoning"),
        "seen": row.get("seen") if row else None,
        "tokens": pair[f"{side}_tokens"],
        "reward": pair[f"{side}_reward"],
        "scores": scores,
        "facts": facts,
        "no_facts": no_facts,
    }
    return view, notes


def _fact_view(fact: Mapping[str, Any], context: str | None) -> dict[str, Any]:
    """A fact with its verdict and its passages. `nearest` is the place of the first passage with most words of the
    fact; null without a passage or a context."""
    passages: list[dict[str, Any]] = []
    nearest, most = None, -1
    for span in fact.get("passages") or []:
        if len(span) != 2:
            continue
        start, end = span
        text = None if context is None else context[start:end]
        common = _common_words(str(fact.get("text")), text or "")
        if context and common > most:
            nearest, most = len(passages), common
        passages.append({"start": start, "end": end, "text": text})
    return {
        "text": str(fact.get("text", "")),
        **_fields(fact, _FACT_FIELDS),
        **({name: fact[name] for name in _VERIFIER_FIELDS} if "by" in fact else {}),
        "passages": passages,
        "nearest": nearest,
    }


def _common_words(fact: str, passage: str) -> int:
    """How many words of the fact are in the passage."""
    return (Counter(rouge_tokens(fact)) & Counter(rouge_tokens(passage))).total()


def _fields(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The fields of these names; null where the row has no such."""
    return {name: row.get(name) for name in names}


def _dicts(value: Any) -> list[dict[str, Any]]:
    """The dicts of a list; none for what is not a list."""
    if not isinstance(value, list):
        return []
    return [entry for entry in value if isinstance(entry, dict)]
