"""What `longmill inspect` shows of a dataset of questions: their list, or one with its proof and its documents."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from infra.errors import InputError
from tasks.records.product import QUESTIONS
from tasks.records.reader import PublishedDataset

_LIST_COLUMNS = ("id", "question", "answers", "kind", "difficulty")
_FIELDS = ("id", "split", "question", "answers", "kind", "language", "difficulty", "tries", "model")


def question_list(dataset: PublishedDataset, limit: int) -> dict[str, Any]:
    """The first `limit` questions, and counts of all.

    {"dataset", "questions": count of all, "more": count of those that are not in "rows", "rows", "kinds": {kind:
    questions}, "drops": {reason: questions}, the most frequent first}.
    """
    rows: list[dict[str, Any]] = []
    kinds: Counter[str] = Counter()
    for row in dataset.rows(QUESTIONS.name, _LIST_COLUMNS):
        kinds[row["kind"]] += 1
        if len(rows) < limit:
            rows.append(row)
    drops = Counter(row["reason"] for row in dataset.rows("drops", ("reason",)))
    return {
        "dataset": dataset.place,
        "questions": kinds.total(),
        "more": kinds.total() - len(rows),
        "rows": rows,
        "kinds": dict(sorted(kinds.items())),
        "drops": dict(sorted(drops.items(), key=lambda drop: (-drop[1], drop[0]))),
    }


def question_view(dataset: PublishedDataset, question_id: str) -> dict[str, Any]:
    """The question with this id, or the one whose id begins so.

    {"id", "split", "question", "answers", "kind", "language", "difficulty", "tries", "model", "documents": [{"title",
    "characters", "page"}], "proof": [{"document": title, "start", "end", "page", "sentence"}]}, and of turns of a
    history their "turn" and "role". Raises InputError for an unknown id, or one that several begin with.
    """
    matches = []
    for row in dataset.rows(QUESTIONS.name, ("id",)):
        if row["id"] == question_id:
            matches = [question_id]
            break
        if question_id and row["id"].startswith(question_id):
            matches.append(row["id"])
    if len(matches) > 1:
        raise InputError(f"{dataset.place}: {len(matches)} questions begin with {question_id!r}; give more of the id")
    for row in dataset.rows(QUESTIONS.name) if matches else ():
        if row["id"] == matches[0]:
            return _view(row)
    for row in dataset.rows("drops", ("example_id", "reason", "detail")):
        if row["example_id"] == question_id:
            raise InputError(f"{question_id}: dropped: {row['reason']} ({row['detail']})")
    raise InputError(f"{dataset.place}: no question {question_id!r}; without --question all are listed")


def _view(row: Mapping[str, Any]) -> dict[str, Any]:
    documents = []
    for document, source in zip(row["documents"], row["sources"], strict=True):
        documents.append({"title": document["title"], "characters": len(document["text"]), "page": source.get("page")})
    proof = []
    for sentence in row["evidence"]:
        proof.append({**sentence, "document": row["documents"][sentence["document"]]["title"]})
    return {**{name: row[name] for name in _FIELDS}, "documents": documents, "proof": proof}
