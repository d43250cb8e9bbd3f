"""Agreement of a published dataset with references, with people's labels, or with another judge; for one verb."""

from typing import Any

from infra.errors import InputError
from tasks.records.reader import ReadDataset, read_dataset
from tasks.reporting.agreement import AgreementTally, gold_preferences
from tasks.reporting.judged import indices_by_question, judged_rows
from tasks.reporting.judging import JudgingTally
from tasks.reporting.labels import labelled, read_labels
from tasks.reporting.rejudged import RejudgedTally, keep

_COLUMNS = (
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
_PAIR = ("example_id", "chosen_index", "rejected_index")


def agreement_view(place: str, labels: str = "", other: str = "") -> dict[str, Any]:
    """The figures of the dataset at `place`.

    {"dataset", "gold": "references" or "labels", "agreement": `AgreementTally.figures`, "judging":
    `JudgingTally.figures`, "unknown_labels": [place in the file, ...], "other": dataset or null, "rejudged":
    `RejudgedTally.figures` or null}. `labels` is a file that stands in for the references; `other` a dataset of the
    same answers. Raises InputError for a label or a dataset that cannot be read, or that is about other answers.
    """
    dataset = read_dataset(place)
    given = read_labels(labels) if labels else None
    second = read_dataset(other) if other else None
    agreement, judging = AgreementTally(dataset.weights), JudgingTally()
    rejudged = RejudgedTally(keep(judged_rows(second.rows("evidence", _COLUMNS), {}))) if second else None
    unknown: list[str] = []
    seen = set()
    pairs = indices_by_question(tuple(row[name] for name in _PAIR) for row in dataset.rows("pairs", _PAIR))
    for question in judged_rows(dataset.rows("evidence", _COLUMNS), pairs):
        seen.add(question.example.example_id)
        if given is None:
            preferences = gold_preferences(question)
        else:
            preferences, strange = labelled(question, given)
            unknown += strange
        agreement.add(question, preferences)
        judging.add(question)
        if rejudged:
            rejudged.add(question)
    unknown += [each.place for name, of_name in (given or {}).items() if name not in seen for each in of_name]
    figures = agreement.figures()
    if given is not None and figures is None:
        raise InputError(f"{labels}: no label is about answers of {dataset.place}; check example_id and the dataset")
    return {
        "dataset": dataset.place,
        "gold": "references" if given is None else "labels",
        "agreement": figures,
        "judging": judging.figures(),
        "unknown_labels": unknown,
        "other": second.place if second else None,
        "rejudged": _compared(rejudged, dataset, second) if rejudged and second else None,
    }


def _compared(rejudged: RejudgedTally, dataset: ReadDataset, second: ReadDataset) -> dict[str, Any]:
    figures = rejudged.figures()
    if not figures["answers"]:
        raise InputError(f"{second.place}: holds none of the answers of {dataset.place}; give one of the same answers")
    return figures
