"""One pair of a published dataset, traced: chosen beside rejected, every score, every fact with its passages.

All of it comes from the dataset's own folder. Offsets of passages refer to the context, which the prompt of the pair
holds (`prompt_context.context_in`); of the passages that the judge saw with a fact, the nearest in words is marked,
because the judge does not say which one convinced it.
"""

import difflib
from collections import Counter
from collections.abc import Mapping
from itertools import groupby, islice
from typing import Any

from infra.errors import InputError
from tasks.metrics import rouge_tokens
from tasks.records.reader import ReadDataset
from tasks.reporting.judged import evidence_of
from tasks.reporting.prompt_context import context_in

_LISTED = ("example_id", "question", "chosen_reward", "rejected_reward", "margin")
_SIDES = ("chosen", "rejected")
_NEAR = 5  # ids that an error names


def pair_list(dataset: ReadDataset, limit: int) -> dict[str, Any]:
    """{"pairs": all there are, "more": how many are not shown, "rows": the first `limit`, each with its "number" among
    those of its question, from 1, "drops": {reason: questions that gave none}, the most frequent first}."""
    rows: list[dict[str, Any]] = []
    count = 0
    for _, of_question in groupby(dataset.rows("pairs", _LISTED), key=lambda row: row["example_id"]):
        for number, row in enumerate(of_question, 1):
            count += 1
            if count <= limit:
                rows.append({**row, "number": number})
    drops = Counter(row["reason"] for row in dataset.rows("drops", ("reason",)))
    return {
        "dataset": dataset.place,
        "pairs": count,
        "more": count - len(rows),
        "rows": rows,
        "drops": dict(sorted(drops.items(), key=lambda each: (-each[1], each[0]))),
    }


def pair_view(dataset: ReadDataset, pair_id: str, number: int = 1) -> dict[str, Any]:
    """Everything that is known of the pair with this id, or with the one id that begins so.

    `number` says which of the question's pairs, from 1.

    {"example_id", "number", "of": the question's pairs, "split", "question", "references", "margin",
    "context": {"id", "characters" or null}, "notes": [{"part", "of", "start", "end", "text", "reason"}],
    "answers": {"chosen" and "rejected": {"index", "text", "reward", "scores": [{"scorer", "score", "reason", "reply"}],
    "facts": [{"text", "support", "reason", "passages": [{"start", "end", "text"}], "nearest"}], "no_facts"}}}

    Raises InputError for an unknown id, naming those near it, and for a number that there is not.
    """
    found, count = _find(dataset, pair_id)
    if number > count:
        raise InputError(
            f"{dataset.place}: question {found} has {count} pairs and no pair {number}; give a smaller --number"
        )
    row = next(islice((each for each in dataset.rows("pairs") if each["example_id"] == found), number - 1, None))
    context = context_in(row["prompt"][-1]["content"], row)
    evidence = [each for each in dataset.rows("evidence") if each["example_id"] == found]
    sides = {side: _answer(row, side, evidence, context) for side in _SIDES}
    notes: list[Mapping[str, Any]] = next((side["notes"] for side in sides.values() if side["notes"]), [])
    return {
        "number": number,
        "of": count,
        **{name: row[name] for name in ("example_id", "split", "question", "references", "kind", "language", "margin")},
        "prompt_tokens": row["prompt_tokens"],
        "context": {"id": row["context_id"], "characters": None if context is None else len(context)},
        "notes": [dict(note) for note in notes],
        "answers": {side: {key: value for key, value in of.items() if key != "notes"} for side, of in sides.items()},
    }


def _find(dataset: ReadDataset, pair_id: str) -> tuple[str, int]:
    """The id of the question that is meant, and how many pairs it has."""
    counts = Counter(row["example_id"] for row in dataset.rows("pairs", ("example_id",)))
    ids: list[str] = list(counts)
    if pair_id in counts:
        return pair_id, counts[pair_id]
    starting = [each for each in ids if pair_id and each.startswith(pair_id)]
    if len(starting) == 1:
        return starting[0], counts[starting[0]]
    if starting:
        raise InputError(
            f"{dataset.place}: several pairs begin with {pair_id!r}: {_some(starting)}; give more of the id"
        )
    for row in dataset.rows("drops", ("example_id", "reason", "detail")):
        if row["example_id"] == pair_id:
            raise InputError(f"{pair_id}: this question gave no pair; dropped: {row['reason']} ({row['detail']})")
    near = difflib.get_close_matches(pair_id, ids, _NEAR, cutoff=0.5) or ids[:_NEAR]
    told = f"near it: {_some(near)}" if near else "the dataset has no pairs"
    raise InputError(f"{dataset.place}: no pair {pair_id!r}; {told}; without --pair all are listed")


def _some(ids: list[str]) -> str:
    more = f" and {len(ids) - _NEAR} more" if len(ids) > _NEAR else ""
    return ", ".join(ids[:_NEAR]) + more


def _answer(row: Mapping[str, Any], side: str, evidence: list[dict[str, Any]], context: str | None) -> dict[str, Any]:
    """One side of the pair with its evidence."""
    own = next((each for each in evidence if each["sample_index"] == row[f"{side}_index"]), None)
    judgements = own["judgements"] if own else []
    told = {each["scorer"]: evidence_of(each["evidence"]) for each in judgements}
    facts = [fact for each in told.values() for fact in _dicts(each.get("facts"))]
    return {
        "index": row[f"{side}_index"],
        "text": row[side][-1]["content"],
        "finish_reason": own["finish_reason"] if own else None,
        "tokens": row[f"{side}_tokens"],
        "reward": row[f"{side}_reward"],
        "scores": [
            {**{name: each[name] for name in ("scorer", "score", "reason")}, "reply": told[each["scorer"]].get("reply")}
            for each in judgements
        ],
        "facts": [_fact(fact, context) for fact in facts],
        "no_facts": any(each.get("no_facts") is True for each in told.values()),
        "notes": [note for each in told.values() for note in _dicts(each.get("notes"))],
    }


def _fact(fact: Mapping[str, Any], context: str | None) -> dict[str, Any]:
    """A fact with its verdict and the text of its passages; `nearest` is the place of the one nearest in words."""
    passages = [
        {"start": start, "end": end, "text": None if context is None else context[start:end]}
        for start, end in (span for span in fact.get("passages") or [] if len(span) == 2)
    ]
    shared = [_shared_words(str(fact.get("text")), passage["text"] or "") for passage in passages]
    return {
        "text": str(fact.get("text", "")),
        **{name: fact.get(name) for name in ("support", "reason", "shared", "reply", "number", "key")},
        "passages": passages,
        "nearest": max(range(len(shared)), key=lambda place: (shared[place], -place)) if context and shared else None,
    }


def _shared_words(fact: str, passage: str) -> int:
    """Words of the fact that the passage has."""
    return (Counter(rouge_tokens(fact)) & Counter(rouge_tokens(passage))).total()


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
